import Testing

@testable import MigrationEngine

struct SchemaEntryTests {
  /// What pg_restore 15 prints.
  private static let list = """
    ;
    ; Archive created at 2026-05-04 03:02:01 UTC
    ;     dbname: app
    ;     TOC Entries: 14
    ;
    ; Selected TOC Entries:
    ;
    3360; 2606 16402 FK CONSTRAINT public orders orders_customer_fkey app
    3201; 2606 16399 CONSTRAINT public orders orders_pkey app
    3202; 2606 16405 CHECK CONSTRAINT public orders orders_check app
    3203; 1259 16406 INDEX public orders_at_idx app
    3204; 0 0 INDEX ATTACH public orders_2026_at_idx app
    3205; 3381 16410 STATISTICS public orders_stats app
    3206; 2620 16411 TRIGGER public orders touch app
    3207; 2618 16412 RULE public orders_view _RETURN app
    3208; 3256 16413 POLICY public orders own_rows app
    3209; 0 0 COMMENT public INDEX orders_at_idx app
    3210; 3466 16414 EVENT TRIGGER - watch app
    3211; 0 16500 MATERIALIZED VIEW DATA public totals app
    3212; 6104 16600 PUBLICATION - replicate app
    3213; 6106 16601 PUBLICATION TABLE public replicate orders app
    """

  private static let own: Set<SchemaEntry.CatalogID> = [
    .init(classOID: 6104, oid: 16600), .init(classOID: 6106, oid: 16601),
  ]

  private func numbers(_ section: SchemaSection, excluding own: Set<SchemaEntry.CatalogID> = own) -> [Int] {
    SchemaEntry.entries(of: section, in: Self.list, excluding: own).map(\.dumpID)
  }

  /// A view that is grouped by a primary key, one that reads it, and their indexes, after that of a table.
  private static let views = """
    ; Archive created at 2026-05-04 03:02:01 UTC
    221; 1259 16404 TABLE app t app
    ;\tdepends on: 6
    219; 1259 16431 MATERIALIZED VIEW app plain app
    ;\tdepends on: 221 6
    3222; 2606 16411 CONSTRAINT app t t_pkey app
    ;\tdepends on: 221
    216; 1259 16413 MATERIALIZED VIEW app grouped app
    ;\tdepends on: 221 221 3222 6
    3384; 0 0 COMMENT app MATERIALIZED VIEW grouped app
    ;\tdepends on: 216
    3223; 1259 16419 INDEX app grouped_id app
    ;\tdepends on: 216
    3224; 1259 16426 INDEX app plain_id app
    ;\tdepends on: 219
    3225; 3381 16442 STATISTICS app grouped_stats app
    ;\tdepends on: 6 216
    3226; 1259 16427 INDEX app t_v app
    ;\tdepends on: 221
    3376; 0 16431 MATERIALIZED VIEW DATA app plain app
    ;\tdepends on: 219 3379
    """

  @Test func `an entry has its catalog row and its kind`() throws {
    let entry = try #require(
      SchemaEntry("3360; 2606 16402 FK CONSTRAINT public orders a name with blanks app"))
    #expect(entry.id == SchemaEntry.CatalogID(classOID: 2606, oid: 16402))
    #expect(entry.description == "FK CONSTRAINT public orders a name with blanks app")
    #expect(entry.line == "3360; 2606 16402 FK CONSTRAINT public orders a name with blanks app")
  }

  @Test(arguments: [
    "", ";", "; comment", ";3360; 2606 16402 INDEX public a app", "3360 2606 16402 INDEX public a app",
    "3360; x 16402 INDEX public a app", "3360; 2606 -1 INDEX public a app", "3360; 2606 16402",
    "3360; 2606 99999999999 INDEX public a app", "a; 2606 16402 INDEX public a app",
  ])
  func `what is no entry is none`(line: String) {
    #expect(SchemaEntry(line[...]) == nil)
  }

  @Test func `indexes are built first, with the constraints that they carry`() {
    #expect(numbers(.indexes) == [3201, 3203, 3204, 3205])
  }

  @Test func `all else of post-data comes last, and nothing is in both`() {
    #expect(numbers(.constraints) == [3360, 3202, 3206, 3207, 3208, 3209, 3210])
    #expect(Set(numbers(.constraints)).isDisjoint(with: numbers(.indexes)))
  }

  @Test func `what a materialized view carries comes after it, in pg_dump's order`() {
    let dependencies = SchemaDependencies(of: Self.views)
    #expect(dependencies.needs[216] == [221, 221, 3222, 6])
    #expect(dependencies.materializedViews == [216, 219])
    let postData = Self.views.split(separator: "\n").filter { !$0.contains("TABLE") }.joined(separator: "\n")
    func numbers(_ section: SchemaSection) -> [Int] {
      SchemaEntry.entries(of: section, in: postData, excluding: [], dependencies).map(\.dumpID)
    }
    #expect(numbers(.indexes) == [3222, 3226])
    #expect(numbers(.constraints) == [219, 216, 3384, 3223, 3224, 3225])
  }

  @Test func `every entry but our own and the refresh of views is in one of the sections`() {
    #expect(numbers(.constraints).count + numbers(.indexes).count == 11)
    #expect(numbers(.constraints, excluding: []).suffix(2) == [3212, 3213])
  }

  @Test func `before the data nothing is left out but our own`() {
    #expect(numbers(.preData).count == 11)
    #expect(numbers(.preData, excluding: []).count == 13)
  }

  @Test func `lines are handed back as pg_restore wrote them`() {
    let entries = SchemaEntry.entries(of: .preData, in: Self.list, excluding: [])
    #expect(entries.first?.line == "3360; 2606 16402 FK CONSTRAINT public orders orders_customer_fkey app")
  }

  @Test func `of a script, psql's commands and the empty path are left out`() {
    let script = """
      \\restrict abc
      SET standard_conforming_strings = on;
      SELECT pg_catalog.set_config('search_path', '', false);
      CREATE INDEX i ON app.t USING btree (app.f(v));
      \\unrestrict abc
      """
    #expect(
      EntryScripts.statements(script) == """
        SET standard_conforming_strings = on;
        CREATE INDEX i ON app.t USING btree (app.f(v));
        """)
  }

  @Test func `sections are spelled as pg_restore spells them`() {
    #expect(SchemaSection.allCases.map(\.dumpSection) == ["pre-data", "post-data", "post-data"])
  }
}
