// swift-tools-version: 6.2

import PackageDescription

let settings: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .treatAllWarnings(as: .error),
]

let package = Package(
  name: "replicate",
  products: [.executable(name: "replicate", targets: ["replicate"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/swiftlang/swift-subprocess", from: "1.0.2"),
    // FilePath, the type of an executable's path in Subprocess.
    .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
  ],
  targets: [
    .systemLibrary(
      name: "CLibPQ", pkgConfig: "libpq", providers: [.apt(["libpq-dev"]), .brew(["libpq"])]),
    .target(name: "LibPQ", dependencies: ["CLibPQ"], swiftSettings: settings),
    .target(name: "LogicalReplication", swiftSettings: settings),
    .target(
      name: "MigrationEngine",
      dependencies: [
        "LibPQ", "LogicalReplication",
        .product(name: "Logging", package: "swift-log"),
        .product(name: "Subprocess", package: "swift-subprocess"),
        .product(name: "SystemPackage", package: "swift-system"),
        .product(name: "Yams", package: "Yams"),
      ], swiftSettings: settings),
    .executableTarget(
      name: "replicate",
      dependencies: [
        "LibPQ", "MigrationEngine",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "UnixSignals", package: "swift-service-lifecycle"),
      ], swiftSettings: settings),

    .testTarget(name: "LibPQTests", dependencies: ["LibPQ"], swiftSettings: settings),
    .testTarget(
      name: "LogicalReplicationTests", dependencies: ["LogicalReplication"], exclude: ["Corpus"],
      swiftSettings: settings),
    .testTarget(
      name: "MigrationEngineTests",
      dependencies: [
        "LibPQ", "LogicalReplication", "MigrationEngine", .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: settings),
    .testTarget(
      name: "ReplicateTests",
      dependencies: [
        "replicate", "LibPQ", "MigrationEngine",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "UnixSignals", package: "swift-service-lifecycle"),
      ], swiftSettings: settings),
    .testTarget(name: "TidyTests", swiftSettings: settings),

    // What needs real servers: the clusters and workloads, and the tests that use them.
    .target(
      name: "Clusters", dependencies: ["LibPQ", .product(name: "Subprocess", package: "swift-subprocess")],
      path: "integration/Clusters", swiftSettings: settings),
    .executableTarget(
      name: "demo", dependencies: ["Clusters", "MigrationEngine"], path: "integration/Demo",
      swiftSettings: settings),
    .executableTarget(
      name: "bench",
      dependencies: [
        "Clusters", "LibPQ", "MigrationEngine", .product(name: "Logging", package: "swift-log"),
      ],
      path: "integration/Bench", swiftSettings: settings),
    .testTarget(
      name: "IntegrationTests",
      dependencies: [
        "Clusters", "LibPQ", "LogicalReplication", "MigrationEngine",
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "integration/Tests", exclude: ["Cases/README.md"], swiftSettings: settings),
  ],
  swiftLanguageModes: [.v6]
)
