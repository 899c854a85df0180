import Testing

@testable import MigrationEngine

@Suite("Evidence of AWS")
struct AWSEvidenceTests {
  @Test(
    "Endpoints are known by their names, and show their region",
    arguments: [
      ("new.cluster-w2q2dln1.eu-west-1.rds.amazonaws.com", "eu-west-1"),
      ("New.cluster-ro-w2q2dln1.us-gov-east-1.RDS.amazonaws.com", "us-gov-east-1"),
      ("one.abc.rds.cn-north-1.amazonaws.com.cn", "cn-north-1"),
      ("one.abc.cn-north-1.rds.amazonaws.com.cn", "cn-north-1"),
    ])
  func endpoints(host: String, region: String) {
    #expect(AWSEndpoint.matches(host))
    #expect(AWSEndpoint.region(of: host) == region)
  }

  @Test(
    "Other names are none",
    arguments: ["db.example.com", "127.0.0.1", "", "rds.amazonaws.com.evil.example", "x.amazonaws.com"])
  func others(host: String) {
    #expect(!AWSEndpoint.matches(host))
    #expect(AWSEndpoint.region(of: host) == nil)
  }

  @Test("A global cluster's endpoint has no region of its own")
  func global() {
    let host = "app.global-abc123.global.rds.amazonaws.com"
    #expect(AWSEndpoint.matches(host) && AWSEndpoint.isGlobal(host))
    #expect(AWSEndpoint.region(of: host) == nil)
    #expect(!AWSEndpoint.isGlobal("new.cluster-w2q2dln1.eu-west-1.rds.amazonaws.com"))
  }

  @Test(
    "A key that AWS owns is encryption as well, and is named as such",
    arguments: [
      (nil, true, "k", "cluster c, KMS key k"), ("sse-kms", true, "k", "cluster c, KMS key k"),
      ("sse-rds", false, nil, "cluster c, a key that AWS owns (sse-rds)"),
      ("sse-rds", nil, nil, "cluster c, a key that AWS owns (sse-rds)"),
      ("none", false, nil, nil), (nil, nil, "k", nil),
    ] as [(String?, Bool?, String?, String?)])
  func types(type: String?, encrypted: Bool?, key: String?, detail: String?) {
    let store = AWSEvidence.Store(id: "c", hosts: [], encrypted: encrypted, type: type, key: key)
    let evidence = AWSEvidence.evidence(store, "cluster")
    #expect(evidence.status == (detail == nil ? .unverified : .verified))
    if let detail { #expect(evidence.detail == detail) }
  }

  @Test("A name that leads to no endpoint is asked for as it is, and none is looked up that need not be")
  func names() async {
    for host in ["localhost", "", "/tmp", "new.cluster-w2q2dln1.eu-west-1.rds.amazonaws.com"] {
      #expect(await AWSEndpoint.names(of: host) == [host])
    }
  }

  @Test("A cluster is found by its endpoint, its reader's and its custom ones; what it says is quoted")
  func stores() throws {
    let text = """
      [{"id": "new", "hosts": ["New.example", "ro.example"], "custom": ["c.example"], "encrypted": true,
        "key": "arn:aws:kms:eu-west-1:1:key/7"},
       {"id": "half", "hosts": [null, null], "custom": null, "encrypted": null, "key": null}]
      """
    let stores = try AWSCommand.decode([AWSEvidence.Store].self, Array(text.utf8), "x")
    for host in ["new.example", "ro.example", "C.example"] { #expect(stores[0].isAt(host)) }
    #expect(!stores[0].isAt("example") && !stores[1].isAt("new.example"))
    let evidence = AWSEvidence.evidence(stores[0], "cluster")
    #expect(evidence.status == .verified && evidence.provider == .aws)
    #expect(evidence.detail == "cluster new, KMS key arn:aws:kms:eu-west-1:1:key/7")
    let none = AWSEvidence.evidence(stores[1], "instance")
    #expect(none.status == .unverified && none.provider == .aws)
    #expect(none.detail == "instance half is not encrypted: its StorageEncrypted is false")
  }
}
