extension SwitchStep {
  /// A field of a secret that is a JSON object, and what it is to hold.
  package struct Secret: Sendable {
    var secret: String
    var field: String
    /// Nil: the target's host.
    package var value: String?
    var access = AWSAccess()
    /// What it holds after a rollback; nil: the source's host.
    var rollbackValue: String?

    var exchanged: Secret {
      var copy = self
      copy.value = rollbackValue
      return copy
    }
  }

  /// A proxy, and the database that it is to lead to.
  package struct ProxyTarget: Sendable {
    /// As the proxy's target group calls it.
    enum Database: Sendable, Equatable {
      /// An Aurora or Multi-AZ cluster.
      case cluster(String)
      case instance(String)
    }

    static let defaultGroup = "default"

    var proxy: String
    var group = defaultGroup
    /// Nil: the one that has the target's endpoint.
    var database: Database?
    var access = AWSAccess()
    /// Where a rollback leads it; nil: to the one that has the source's endpoint.
    var rollbackDatabase: Database?

    var exchanged: ProxyTarget {
      var copy = self
      swap(&copy.database, &copy.rollbackDatabase)
      return copy
    }
  }

  /// Workloads whose pods are replaced.
  package struct KubernetesRollout: Sendable {
    var namespace: String
    /// `deployment/api`, `statefulset/worker`.
    var workloads: [String]
    /// Of kubectl's configuration; nil: its current one.
    var context: String?
  }
}
