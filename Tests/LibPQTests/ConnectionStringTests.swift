import LibPQ
import Testing

struct ConnectionStringTests {
  @Test(arguments: [
    "postgresql://app:s3cret@db.example:6432/orders?sslmode=verify-full",
    "postgres://app:s3cret@db.example:6432/orders?sslmode=verify-full",
    "host=db.example port=6432 user=app password=s3cret dbname=orders sslmode=verify-full",
    "host = 'db.example' port=6432 user=app password='s3cret' dbname=orders sslmode=verify-full",
  ])
  func `a URI and keywords say the same`(text: String) throws {
    let string = try ConnectionString(text, for: "source")
    #expect(string["host"] == "db.example")
    #expect(string["port"] == "6432")
    #expect(string["user"] == "app")
    #expect(string["dbname"] == "orders")
    #expect(string["sslmode"] == "verify-full")
    #expect(string.password == "s3cret")
    #expect(!string.redacted.contains("s3cret"))
    #expect(string.redacted.contains("host=db.example"))
  }

  @Test func `a URI may name several hosts, a socket directory, and escape what it needs`() throws {
    let hosts = try ConnectionString("postgresql://a:1,b:2/d?target_session_attrs=read-write", for: "source")
    #expect(hosts["host"] == "a,b")
    #expect(hosts["port"] == "1,2")
    let socket = try ConnectionString("postgresql://%2Fvar%2Frun/d", for: "source")
    #expect(socket["host"] == "/var/run")
    #expect(try ConnectionString("postgresql://u:p%40%2F@h/d", for: "source").password == "p@/")
  }

  @Test func `a service stays libpq's business`() throws {
    let string = try ConnectionString("service=orders user=app", for: "source")
    #expect(string["service"] == "orders")
    #expect(string["host"] == nil)
    #expect(string.password == nil)
  }

  @Test func `nothing but what was said is in it`() throws {
    #expect(try ConnectionString("", for: "source").keywords.isEmpty)
    #expect(try ConnectionString("dbname=a", for: "source").redacted == "dbname=a")
  }

  @Test func `redaction leaves a string that libpq reads the same`() throws {
    let text = #"host=h user='it''s' dbname='a b\'c\\d' password='x y' options='-c a=b' application_name=''"#
      .replacing("''s", with: #"\'s"#)
    let string = try ConnectionString(text, for: "source")
    #expect(string["dbname"] == #"a b'c\d"#)
    let again = try ConnectionString(string.redacted, for: "source")
    for keyword in string.keywords where keyword.name != "password" {
      #expect(again[keyword.name] == keyword.value)
    }
    #expect(again.password == nil)
  }

  @Test func `settings come behind the options that are there, with their blanks`() throws {
    let string = try ConnectionString("dbname=a options='-c work_mem=9MB'", for: "source")
    let more = string.addingOptions([("DateStyle", "ISO, YMD"), ("search_path", ""), ("a.b", #"c\d"#)])
    #expect(more["options"] == #"-c work_mem=9MB -c DateStyle=ISO,\ YMD -c search_path= -c a.b=c\\d"#)
    #expect(string["options"] == "-c work_mem=9MB")
  }

  @Test func `redaction escapes a quote that a combining mark follows`() throws {
    for value in ["a'\u{301} host=elsewhere", "a\\\u{301}' host=elsewhere", "\r\n", "a=b"] {
      let string = try ConnectionString("", for: "source").setting("dbname", to: value)
      let again = try ConnectionString(string.redacted, for: "source")
      #expect(again["dbname"].map { Array($0.utf8) } == Array(value.utf8))
      #expect(again["host"] == nil)
    }
  }

  @Test func `the key's password is a secret too`() throws {
    let string = try ConnectionString("host=h sslpassword=hunter2", for: "source")
    #expect(!string.redacted.contains("hunter2"))
  }

  @Test func `a keyword is set anew, a default only where there is none`() throws {
    let string = try ConnectionString("host=h application_name=mine", for: "source")
    #expect(string.setting("application_name", to: "other")["application_name"] == "other")
    #expect(string.settingDefault("application_name", to: "other")["application_name"] == "mine")
    #expect(string.settingDefault("keepalives_idle", to: "10")["keepalives_idle"] == "10")
    #expect(string["keepalives_idle"] == nil)
  }

  @Test(arguments: [
    "postgresql://app:hunter2@h/%zz", "password=hunter2 nonsense", "host=h passwort=x password = 'hunter2",
    "postgresql://app:hunter2@[::1", "PASSWORD=hunter2",
  ])
  func `what cannot be read is refused without showing the password`(text: String) throws {
    let error = #expect(throws: PostgresError.self) { try ConnectionString(text, for: "target") }
    let description = try #require(error).description
    #expect(error?.code == .connectionString)
    #expect(description.contains("target"))
    #expect(!description.contains("hunter2"))
  }

  @Test func `what is wrong is named when there is no secret near`() throws {
    let error = #expect(throws: PostgresError.self) { try ConnectionString("hostt=a", for: "source") }
    #expect(try #require(error).message.contains("hostt"))
  }

  @Test func `printing it in any way never shows the password`() throws {
    let string = try ConnectionString("host=h password=hunter2", for: "source")
    #expect(!"\(string)".contains("hunter2"))
    #expect(!String(reflecting: string).contains("hunter2"))
    var dumped = ""
    dump(string, to: &dumped)
    #expect(!dumped.contains("hunter2"))
  }
}
