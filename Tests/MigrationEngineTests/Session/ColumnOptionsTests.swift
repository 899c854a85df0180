import Testing

@testable import MigrationEngine

/// Options of columns that a server keeps for itself, in what pg_dump writes.
struct ColumnOptionsTests {
  private func kept(_ line: String) -> String { String(ColumnOptions.ofUsers(in: line[...])) }

  @Test func `what is the server's own goes, and what users gave stays, in either order`() {
    let alter = "ALTER TABLE ONLY public.t ALTER COLUMN a"
    #expect(kept("\(alter) SET (pg_attver=22159328);") == "\(alter) RESET (n_distinct);")
    #expect(kept("\(alter) SET (pg_attver=2, n_distinct=5);") == "\(alter) SET (n_distinct=5);")
    #expect(kept("\(alter) SET (n_distinct=-0.5, pg_attver=2);") == "\(alter) SET (n_distinct=-0.5);")
    #expect(
      kept("ALTER TABLE ONLY public.t ALTER COLUMN \" SET (\" SET (pg_attver=1);")
        == "ALTER TABLE ONLY public.t ALTER COLUMN \" SET (\" RESET (n_distinct);")
    // The end of a statement whose column has a line break in its name.
    #expect(kept("b\" SET (pg_attver=1);") == "b\" RESET (n_distinct);")
  }

  @Test(
    arguments: [
      "ALTER TABLE ONLY public.t ALTER COLUMN a SET (n_distinct=5, n_distinct_inherited=7);",
      "ALTER TABLE public.t SET (fillfactor=70);", "  SET (a) = (1);", "CREATE TABLE public.t (", "",
    ])
  func `everything else is left as it is`(line: String) {
    #expect(kept(line) == line)
  }

  @Test func `schemas that differ in nothing else are equal`() {
    func text(_ options: String) -> SchemaText {
      SchemaText(
        """
        -- Name: t; Type: TABLE; Schema: public; Owner: postgres
        CREATE TABLE public.t (
            a integer
        );
        \(options)
        """)
    }
    let alter = "ALTER TABLE ONLY public.t ALTER COLUMN a SET"
    #expect(text("\(alter) (pg_attver=1);") == text(""))
    #expect(text("\(alter) (pg_attver=1, n_distinct=5);") == text("\(alter) (n_distinct=5);"))
    #expect(text("\(alter) (pg_attver=1, n_distinct=5);") != text(""))
  }
}
