import Testing

@testable import MigrationEngine

struct DigestTests {
  private func column(_ name: String, _ oid: UInt32, _ send: String, sharesEncoding: Bool = true)
    -> DigestedColumn
  {
    DigestedColumn(
      form: .binary(send: send, typeOID: oid, sharesEncoding: sharesEncoding), value: "t.\"\(name)\"")
  }

  private let record = Digest(function: .record, seed: 7)

  @Test func `a type whose hash is exact goes in as itself, any other by its binary form`() {
    let row = record.row(
      [
        column("i", 23, "int4send"), column("n", 1700, "numeric_send"), column("b", 20, "int8send"),
        column("t", 25, "textsend"), column("c", 1042, "bpcharsend"), column("f", 701, "float8send"),
      ], key: [column("i", 23, "int4send")])
    #expect(
      row == """
        pg_catalog.hash_record_extended(ROW(1, pg_catalog.numeric_send(t."n"), \
        pg_catalog.int8send(t."b"), t."t" COLLATE pg_catalog."C", \
        t."c" COLLATE pg_catalog."C", t."f", CASE WHEN t."f" OPERATOR(pg_catalog.=) 0 \
        THEN pg_catalog.float8send(t."f") END), \
        coalesce(pg_catalog.hashint4extended(t."i", 7), 0))
        """)
  }

  @Test func `texts of servers with different encodings go in as they are sent`() {
    let row = record.row(
      [column("t", 25, "textsend", sharesEncoding: false)], key: [column("n", 1700, "numeric_send")])
    #expect(row.hasPrefix("pg_catalog.hash_record_extended(ROW(1, pg_catalog.textsend(t.\"t\")), coalesce("))
  }

  @Test func `without a key the row's hash is hashed once more, so that rows cannot exchange values`() {
    let row = record.row([column("i", 23, "int4send")], key: [])
    #expect(
      row == """
        pg_catalog.hash_record_extended(ROW(pg_catalog.int8send(\
        pg_catalog.hash_record_extended(ROW(t."i"), 7))), 7)
        """)
  }

  @Test func `values with exact hashes are hashed under their row's key and column's place`() {
    let key = column("i", 23, "int4send")
    #expect(
      record.row([column("b", 16, "boolsend"), key, column("t", 25, "textsend")], key: [key]) == """
        coalesce(pg_catalog.hashint4extended(t."i", 7), 0) OPERATOR(pg_catalog.#) \
        coalesce(pg_catalog.hashint4extended(pg_catalog.int4(t."b"), \
        coalesce(pg_catalog.hashint4extended(t."i", 8), 0)), 8) OPERATOR(pg_catalog.#) \
        coalesce(pg_catalog.hashtextextended(t."t" COLLATE pg_catalog."C", \
        coalesce(pg_catalog.hashint4extended(t."i", 9), 0)), 9)
        """)
  }

  @Test func `a key is a chain of hashes, each the next one's seed`() {
    #expect(
      record.key([column("a", 23, "int4send"), column("b", 25, "textsend")]) == """
        coalesce(pg_catalog.hashtextextended(t."b" COLLATE pg_catalog."C", \
        pg_catalog.hashint4extended(t."a", 7)), 0)
        """)
  }

  @Test func `both halves of a 64-bit key count`() {
    let key = record.key([column("a", 20, "int8send")])
    #expect(key.contains("t.\"a\" OPERATOR(pg_catalog.>>) 32"))
  }

  @Test func `a key of another type is hashed as a row`() {
    #expect(
      record.key([column("a", 1700, "numeric_send")])
        == "coalesce(pg_catalog.hash_record_extended(ROW(pg_catalog.numeric_send(t.\"a\")), 7), 0)")
  }

  @Test func `servers before 14 hash arrays of binary forms, those before 11 take their MD5`() {
    let columns = [column("i", 23, "int4send")]
    #expect(
      Digest(function: .array, seed: 7).row(columns, key: []).contains(
        "pg_catalog.hash_array_extended(ARRAY[pg_catalog.int4send(t.\"i\")]::pg_catalog.bytea[], 7)"))
    let md5 = Digest(function: .md5, seed: 7).row(columns, key: columns)
    #expect(md5.contains("pg_catalog.md5(pg_catalog.array_send(ARRAY[pg_catalog.int4send(t.\"i\")]"))
    #expect(!md5.contains("extended"))
  }

  @Test func `text and presence know neither casts nor operators of users`() {
    #expect(
      DigestedColumn(form: .text, value: "t.\"a\", t.\"b\"").direct
        == "pg_catalog.textsend(ROW(t.\"a\", t.\"b\")::pg_catalog.text)")
    #expect(
      DigestedColumn(form: .presence, value: "t.\"a\"").direct
        == "pg_catalog.boolsend(t.\"a\" IS DISTINCT FROM NULL)")
  }
}
