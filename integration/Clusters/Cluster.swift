import Foundation

/// A throw-away PostgreSQL cluster on this machine: own data directory, port, socket and superuser.
///
/// Durable as a production server (`fsync` on), so that what is committed survives `kill9`.
package actor Cluster {
  /// What a test may want of its server.
  package struct Options: Sendable {
    /// Lines for the server's configuration, over the harness's own.
    package var settings: [String: String] = [:]

    /// Serve TLS with a certificate of an own authority; connection strings then say `sslmode=verify-full`.
    package var tls = false

    /// Put the data directory on encrypted storage where the machine allows it; `storage` says what came of
    /// it.
    package var encryptedStorage = false

    /// The network that the server listens in instead of this machine's own.
    package var network: NetworkNamespace?

    /// The folder of the server's programs, which may be of another version than the rest; nil:
    /// `PostgresPrograms.directory`.
    package var programs: String?

    /// The name of the server's first superuser.
    package var superuser = "postgres"

    /// A server as the harness has it, unless something else is said.
    package init(
      settings: [String: String] = [:], tls: Bool = false, encryptedStorage: Bool = false,
      network: NetworkNamespace? = nil, programs: String? = nil, superuser: String = "postgres"
    ) {
      self.settings = settings
      self.tls = tls
      self.encryptedStorage = encryptedStorage
      self.network = network
      self.programs = programs
      self.superuser = superuser
    }
  }

  /// What errors call it.
  package nonisolated let name: String

  /// As `integration/encrypted-storage mount` calls it: `fscrypt`, `gocryptfs`, or `none` and why.
  package nonisolated let storage: String
  /// On which no other server of this machine listens.
  package nonisolated let port: Int
  /// Owned by the server's user.
  package nonisolated let dataDirectory: String

  /// The server's superuser, database `postgres`.
  package nonisolated let superuser: ConnectionString

  /// Where its socket lies, which is reached whatever the network.
  package nonisolated var socketDirectory: String { directory }

  private nonisolated let directory: String
  private let network: NetworkNamespace?
  private let programs: String?
  private var settings: [String: String]
  private var isDestroyed = false

  /// Creates a cluster; it is not running yet.
  package init(named name: String, _ options: Options = Options()) async throws {
    let directory = try await TestRoot.path + "/\(name)-\(TestRoot.unique())"
    let owner = geteuid() == 0 ? ["-o", "postgres", "-g", "postgres"] : []
    try await Command.check(["install", "-d", "-m", "0755"] + owner + [directory])
    self.name = name
    self.directory = directory
    self.network = options.network
    programs = options.programs
    self.port = try freePort()
    if options.encryptedStorage {
      (dataDirectory, storage) = try await EncryptedStorage.mount(for: directory)
    } else {
      (dataDirectory, storage) = ("\(directory)/data", "none not asked for")
    }
    let password = UUID().uuidString
    let base = ConnectionString([
      "host": "127.0.0.1", "port": "\(port)", "user": options.superuser, "password": password,
      "dbname": "postgres",
    ])
    settings = Self.settings(directory: directory, port: port)
    if options.tls {
      let authority = try await ServerCertificate.make(in: directory)
      settings.merge(ServerCertificate.settings(in: directory)) { $1 }
      superuser = base.with(["sslmode": "verify-full", "sslrootcert": authority])
    } else {
      superuser = base
    }
    if let network { settings["listen_addresses"] = "127.0.0.1,\(network.address)" }
    settings.merge(options.settings) { $1 }
    try await initialize(options.superuser, password: password)
  }

  private static func settings(directory: String, port: Int) -> [String: String] {
    [
      "listen_addresses": "127.0.0.1", "port": "\(port)", "unix_socket_directories": directory,
      // Outside the data directory, which an encrypting file system may hide from root.
      "external_pid_file": "\(directory)/postmaster.pid",
      "wal_level": "logical", "max_wal_senders": "20", "max_replication_slots": "20",
      "max_connections": "100", "max_prepared_transactions": "10", "fsync": "on", "shared_buffers": "128MB",
      "log_line_prefix": "%m [%p] %q%u@%d %a ", "logging_collector": "off",
    ]
  }

  private func initialize(_ superuser: String, password: String) async throws {
    let passwordFile = "\(directory)/password"
    try Data(password.utf8).write(to: URL(filePath: passwordFile))
    try await serverCommand([
      PostgresPrograms.path("initdb", in: programs), "--no-sync", "-A", "scram-sha-256", "-U", superuser,
      "--pwfile=\(passwordFile)", "-E", "UTF8", "--locale=C.UTF-8", "-D", dataDirectory,
    ])
    try FileManager.default.removeItem(atPath: passwordFile)
    if network != nil {
      let anywhere = "printf 'host all,replication all 0.0.0.0/0 scram-sha-256\\n' >>\"$0/pg_hba.conf\""
      try await serverCommand(["sh", "-c", anywhere, dataDirectory])
    }
    let include = "printf \"include '%s'\\n\" \"$0\" >>\"$1/postgresql.conf\""
    try await serverCommand(["sh", "-c", include, "\(directory)/settings.conf", dataDirectory])
    try writeSettings()
  }

  private func writeSettings() throws {
    let lines = settings.sorted { $0.key < $1.key }.map { "\($0.key) = \(quotedLiteral($0.value))\n" }
    try Data(lines.joined().utf8).write(to: URL(filePath: "\(directory)/settings.conf"))
  }

  /// Starts the server and returns when it takes connections.
  package func start() async throws {
    do {
      try await serverCommand([
        PostgresPrograms.path("pg_ctl", in: programs), "start", "-w", "-t", "60", "-s", "-D", dataDirectory,
        "-l", "\(directory)/log",
      ])
    } catch {
      throw HarnessError("cluster \(name) does not start: \(error)\n\(logTail())")
    }
  }

  /// Stops the server in fast mode: sessions are ended, what is committed is checkpointed.
  package func stop() async throws {
    try await serverCommand([
      PostgresPrograms.path("pg_ctl", in: programs), "stop", "-w", "-t", "60", "-s", "-m", "fast", "-D",
      dataDirectory,
    ])
  }

  /// Ends the whole server as a power cut of the process would, and returns when no process of it is left.
  package func kill9() async throws {
    try await Command.check([TestRoot.script("reap"), "server", "\(directory)/postmaster.pid"])
    // A dead postmaster stays a zombie where process 1 does not collect orphans, as in many containers,
    // and its lock files would then keep the next one from starting.
    try await serverCommand([
      "rm", "-f", "\(dataDirectory)/postmaster.pid", "\(directory)/.s.PGSQL.\(port).lock",
    ])
  }

  /// Stops the server and starts it again, with the settings that it has now.
  package func restart() async throws {
    try await stop()
    try await start()
  }

  /// Stops the server and has it begin a new timeline, as a standby does that is promoted.
  package func restartOnNewTimeline() async throws {
    try await stop()
    try await serverCommand(["touch", "\(dataDirectory)/standby.signal"])
    try await start()
    try await serverCommand([
      PostgresPrograms.path("pg_ctl", in: programs), "promote", "-w", "-t", "60", "-s", "-D", dataDirectory,
    ])
  }

  /// Stops the server and has it wait for WAL of a primary, which there is none of: it can only be read.
  package func restartAsStandby() async throws {
    try await stop()
    try await serverCommand(["touch", "\(dataDirectory)/standby.signal"])
    try await start()
  }

  private nonisolated var keptData: String { "\(directory)/kept" }

  /// Keeps a copy of the stopped server's data, as a snapshot of its storage does.
  package func keepData() async throws {
    try await serverCommand(["rm", "-rf", keptData])
    try await serverCommand(["cp", "-a", dataDirectory, keptData])
  }

  /// Gives the stopped server the data that were kept, and keeps what it had instead.
  package func exchangeData() async throws {
    let aside = "\(directory)/aside"
    try await serverCommand(["mv", dataDirectory, aside])
    try await serverCommand(["mv", keptData, dataDirectory])
    try await serverCommand(["mv", aside, keptData])
  }

  /// Changes settings for the next start.
  package func set(_ changes: [String: String]) throws {
    settings.merge(changes) { $1 }
    try writeSettings()
  }

  /// Kills the server and removes every file of the cluster.
  package func destroy() async throws {
    guard !isDestroyed else { return }
    isDestroyed = true
    try await kill9()
    try await EncryptedStorage.unmount(for: directory)
    try await Command.check(["rm", "-rf", "--one-file-system", directory])
  }

  /// - Parameters:
  ///   - user: the superuser when nil.
  ///   - extra: more keywords of libpq.
  package nonisolated func connection(
    database: String = "postgres", user: String? = nil, password: String? = nil, extra: [String: String] = [:]
  ) -> ConnectionString {
    var keywords = extra
    keywords["dbname"] = database
    keywords["user"] = user
    keywords["password"] = password
    return superuser.with(keywords)
  }

  /// The end of the server's log.
  package func logTail(lines: Int = 30) -> String {
    guard let data = FileManager.default.contents(atPath: "\(directory)/log") else { return "no log" }
    return String(decoding: data, as: UTF8.self).split(separator: "\n").suffix(lines)
      .joined(separator: "\n")
  }

  private func serverCommand(_ arguments: [String]) async throws {
    // From the root directory, since the server's user may not enter the one we are in.
    var command = PostgresPrograms.asServerUser(["env", "-C", "/"] + arguments)
    if let network { command = network.running(command) }
    try await Command.check(command, limit: .seconds(90))
  }
}

/// A TCP port that nothing listens on, below the range from which the kernel takes ports for outgoing
/// connections: so a stopped cluster finds its port free again.
private func freePort() throws -> Int {
  for _ in 0..<200 {
    let port = Int.random(in: 15_000..<32_000)
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else { throw HarnessError("no socket: errno \(errno)") }
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
    let bound = withUnsafeBytes(of: &address) { bytes in
      bytes.withMemoryRebound(to: sockaddr.self) {
        bind(descriptor, $0.baseAddress, socklen_t(bytes.count))
      }
    }
    if bound == 0 { return port }
  }
  throw HarnessError("no free port found in 200 tries")
}
