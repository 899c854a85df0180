import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// Expressions that pg_dump and pg_restore leave in other words, and those that mean something else.
@Suite(.serialized, .servers, .timeLimit(.minutes(4)))
struct VerifyExpressionsTests {
  /// Over the columns of `t`; the server writes most of them differently once they have been restored.
  private static let conditions = [
    "v IN ('a', 'b')", "v NOT IN ('a', 'b''c', 'd)', 'e]', 'f\"', '(ARRAY[')", "v IN ('a', w, 'b')",
    "v IN (lower(t), upper(w))", "t = ANY (ARRAY[v, w])", "t <> ALL (ARRAY[v, 'x'])",
    "v LIKE ANY (ARRAY[w, 'b%'])", "v ~ ANY (ARRAY['a', 'b']::varchar[])", "n = ANY (ARRAY[1, 2])",
    "n > ALL (ARRAY[1, 2.5])", "n = ANY (ARRAY[s, b])", "f = ANY (ARRAY[1, 2])", "f = ANY (ARRAY[n, 1.5])",
    "c = ANY (ARRAY['a'::varchar, v])", "c IN ('a', 'b')", "d IN ('a', 'b')", "m IN ('sad', 'glad')",
    "m::text IN ('sad', 'glad')", "name IN ('a', 'b')", "name = ANY (ARRAY[v, t])",
    "r IN ('pg_class', 'pg_type')", "takes(ARRAY[v, w])", "takes(ARRAY[[v], [w]])",
    "takes(ARRAY[v, CASE WHEN n > 1 THEN w ELSE 'q' END])", "takes(ARRAY[(v COLLATE \"C\"), w])",
    "takes(ARRAY[]::varchar[])", "COALESCE(ts, ARRAY[v]) = ARRAY['b']",
    "j ?| ARRAY[v, w]", "j #>> ARRAY['a', v] = 'x'", "(ARRAY[v, w])[1] = 'a'", "(p).a IN ('a', 'b')",
    "vs[1] IN ('a', 'b')", "vs && ARRAY['a', 'b']::varchar[]", "v COLLATE \"C\" IN ('a', 'b')",
    "n BETWEEN 1 AND 2 AND b > 0", "n NOT BETWEEN 1 AND 2 OR b > 0", "b > 0 AND n BETWEEN 1 AND 2",
    "(v, n) = ('a', 1) AND b > 0 AND s > 1", "(v, n) IN (('a', 1), ('b', 2)) OR b = 1",
    "NOT (n BETWEEN 1 AND 2 AND v IN ('a', 'b'))", "n BETWEEN SYMMETRIC 2 AND 1 OR v IN ('a', w) OR b = 1",
    "CASE WHEN v IN ('a', 'b') THEN n BETWEEN 1 AND 2 AND b > 0 ELSE w IN ('c', 'd') END",
    "n > - 1::int", "n > -1.5", "b <> -9223372036854775808", "substring(t FROM 1 FOR - 1::int) = 'a'",
    "at > 'epoch'::timestamp", "at::timestamp(0) = at", "extract(year FROM at) IN (2000, 2001)",
    "v::char(3) = 'a'", "'abc'::varchar(2) = w", "at AT TIME ZONE 'UTC' > '2020-01-01'",
    "(v IN ('a', 'b')) IS NOT TRUE", "v IS DISTINCT FROM 'a'", "i > interval '1' day",
  ]

  private static let types = """
    CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TYPE pair AS (a varchar, b numeric);
    CREATE DOMAIN dom AS varchar(10) CHECK (VALUE NOT IN ('x', 'y') AND length(VALUE) BETWEEN 1 AND 9);
    CREATE FUNCTION takes(text[]) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT true';
    CREATE FUNCTION passes() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    """
  private static let columns = """
    id int PRIMARY KEY, v varchar, w varchar(10), t text, c char(5), n numeric, s smallint, b bigint,
    f float8, d dom, m mood, name name, r regclass, ts text[], vs varchar[], j jsonb, p pair, at timestamp,
    i interval
    """

  /// One object of each kind for each condition.
  private static var everywhere: String {
    var sql = "\(types) CREATE TABLE t (\(columns)); CREATE TABLE log (v varchar(3), n numeric(5, 1));\n"
    for (number, condition) in conditions.enumerated() {
      sql += """
        ALTER TABLE t ADD CONSTRAINT c\(number) CHECK (\(condition));
        CREATE VIEW v\(number) AS SELECT id, (\(condition)) AS x FROM t WHERE \(condition);
        CREATE POLICY p\(number) ON t USING (\(condition)) WITH CHECK (\(condition));
        CREATE FUNCTION f\(number)() RETURNS bool LANGUAGE sql /*14+*/
          BEGIN ATOMIC SELECT (\(condition)) FROM t; END; /*14+*/

        """
      // What an index has must be immutable.
      if ["AT TIME", "'pg_class'", "m::text"].contains(where: condition.contains) { continue }
      sql += """
        CREATE INDEX i\(number) ON t (id) WHERE \(condition);
        CREATE INDEX e\(number) ON t ((CASE WHEN \(condition) THEN 1 END), id DESC);

        """
      // Where a server leaves out parentheses, nobody can distinguish a sign from a subtraction.
      if condition.contains("FOR - 1") { continue }
      sql += "CREATE STATISTICS s\(number) ON (CASE WHEN \(condition) THEN 1 END), id FROM t; /*14+*/\n"
    }
    return sql
  }

  private static let rest = """
    CREATE TABLE g (a varchar, b text[] GENERATED ALWAYS AS (ARRAY[a, 'x']) STORED,
      e text DEFAULT CASE WHEN 'a'::varchar IN ('a', 'b') THEN 'x' ELSE 'y' END,
      k bool DEFAULT takes(ARRAY['a'::varchar, 'b']), three varchar(3)[] DEFAULT ARRAY['abcd']::varchar[],
      h text GENERATED ALWAYS AS (CASE WHEN a IN ('a', 'b') THEN 'x' END) STORED,
      EXCLUDE USING btree ((CASE WHEN a IN ('a', 'b') THEN 1 ELSE 2 END) WITH =)
        WHERE (a NOT IN ('x', 'y')));
    CREATE TABLE parts (v varchar(10)) PARTITION BY LIST
      ((CASE WHEN v IN ('a', 'b') THEN 'x'::varchar ELSE v END));
    CREATE TABLE part PARTITION OF parts (CHECK (v IN ('c', 'd'))) FOR VALUES IN ('x', 'y');
    CREATE TRIGGER tr BEFORE UPDATE ON t FOR EACH ROW WHEN (new.v IN ('a', 'b')
      AND old.n = ANY (ARRAY[1, 2]) AND old.* IS DISTINCT FROM new.*) EXECUTE FUNCTION passes();
    CREATE RULE r1 AS ON INSERT TO t WHERE new.v IN ('a', 'b') DO ALSO
      INSERT INTO log SELECT 'a', -1 WHERE new.n BETWEEN 1 AND 2 AND new.b > 0;
    CREATE RULE r2 AS ON UPDATE TO t DO ALSO (UPDATE log SET (v, n) = (SELECT 'a', -1)
      WHERE v IN (SELECT 'a' UNION SELECT 'b'); DELETE FROM log WHERE v NOT IN ('x', 'y'));
    CREATE VIEW joined AS SELECT a.id FROM t a JOIN t b USING (id) LEFT JOIN (SELECT 1 AS one) c ON true
      WHERE a.v IN (SELECT 'x') AND b.n IN (SELECT -1);
    CREATE VIEW of_all AS SELECT t.id FROM t NATURAL LEFT JOIN (SELECT 1 AS one) AS none;
    CREATE VIEW windowed AS SELECT sum(n) OVER (PARTITION BY v IN ('a', 'b') ORDER BY at
      ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS s,
      count(*) FILTER (WHERE w IN ('a', 'b')) OVER () FROM t;
    CREATE VIEW checked AS SELECT id, v FROM t WHERE v IN ('a', 'b') WITH CASCADED CHECK OPTION;
    CREATE MATERIALIZED VIEW kept AS SELECT v FROM t WHERE v IN ('a', 'b');
    CREATE INDEX kept_v ON kept ((v IN ('a', 'b')));
    CREATE FUNCTION defaults(a varchar DEFAULT 'x', b text[] DEFAULT ARRAY['a'::varchar, 'b']) RETURNS bool
      LANGUAGE sql
      RETURN a IN ('a', 'b') AND (SELECT true); /*14+*/
      AS $$SELECT a IN ('a', 'b') AND (SELECT true)$$; /*14-*/
    CREATE PUBLICATION filtered FOR TABLE t (id, v, n) WHERE (n BETWEEN 1 AND 2 AND v = 'a'); /*15+*/
    ALTER TABLE t REPLICA IDENTITY FULL;
    """

  /// The target has what pg_dump and pg_restore make of the source.
  private static func run(_ name: String, _ body: (Scene) async throws -> Void) async throws {
    try await Scene.compared(name, "") { scene in
      try await scene.script(on: .source, everywhere + rest)
      try await Command.check(
        [
          "sh", "-c",
          "\"$0\" -Fc --schema-only --dbname=\"$SOURCE\" | \"$1\" --exit-on-error --dbname=\"$TARGET\"",
          PostgresPrograms.path("pg_dump"), PostgresPrograms.path("pg_restore"),
        ], environment: ["SOURCE": scene.databases.source.text, "TARGET": scene.databases.target.text])
      try await scene.script(on: .target, "REFRESH MATERIALIZED VIEW kept")
      try await body(scene)
    }
  }

  @Test(
    "What pg_dump and pg_restore make of an expression is no difference, of whatever kind its object is")
  func restored() async throws {
    try await Self.run("expressions") { scene in
      let report = try await scene.compareAll()
      #expect(try await scene.lines(report) == [])
      guard try await scene.isOfOneVersion() else { return }
      #expect(try await Self.texts(scene) > 150, "the texts themselves differ")
    }
  }

  /// Definitions that the servers write differently.
  private static func texts(_ scene: Scene) async throws -> Int {
    var texts: [Set<String>] = []
    for server in [scene.databases.source, scene.databases.target] {
      texts.append(try await SchemaDump.entries(of: server))
    }
    return texts[0].subtracting(texts[1]).count
  }

  @Test("What means something else is found, of whatever kind its object is")
  func planted() async throws {
    try await Self.run("plantedexpr") { scene in
      guard try await scene.isOfOneVersion() else { return }
      let major = try await ClusterPair.sourceMajor()
      let known: [(String, String, since: Int)] = [
        (
          "CREATE OR REPLACE FUNCTION f0() RETURNS bool LANGUAGE sql BEGIN ATOMIC SELECT v IN ('b', 'a') "
            + "FROM t; END",
          "function public.f0()", since: 14
        ),
        (
          "DROP STATISTICS s0; CREATE STATISTICS s0 ON (CASE WHEN v IN ('a', 'd') THEN 1 END), id FROM t",
          "statistics public.s0", since: 14
        ),
        (
          "ALTER PUBLICATION filtered SET TABLE t (id, v, n) WHERE (n BETWEEN 1 AND 3 AND v = 'a')",
          "publication table public.filtered t", since: 15
        ),
      ]
      let planted: [(String, String)] =
        known.filter { $0.since <= major }.map { ($0.0, $0.1) } + [
          (
            "ALTER TABLE t DROP CONSTRAINT c0, ADD CONSTRAINT c0 CHECK (v IN ('a', 'c'))", "table public.t"
          ),
          (
            "ALTER TABLE t DROP CONSTRAINT c1, ADD CONSTRAINT c1 CHECK (v NOT IN ('a')) NOT VALID",
            "check constraint c1 on public.t"
          ),
          ("DROP INDEX i0; CREATE INDEX i0 ON t (id) WHERE v NOT IN ('a', 'b')", "index public.i0"),
          ("DROP INDEX i4; CREATE INDEX i4 ON t (id) WHERE t = ANY (ARRAY[w, v])", "index public.i4"),
          (
            "DROP INDEX e0; CREATE INDEX e0 ON t ((CASE WHEN v IN ('a', 'b') THEN 2 END), id DESC)",
            "index public.e0"
          ),
          ("DROP POLICY p0 ON t; CREATE POLICY p0 ON t USING (v IN ('a', 'b'))", "policy p0 on public.t"),
          (
            "CREATE OR REPLACE VIEW v0 AS SELECT id, (v IN ('a', 'b')) AS x FROM t WHERE w IN ('a', 'b')",
            "view public.v0"
          ),
          (
            "CREATE OR REPLACE VIEW v4 AS SELECT id, (t = ANY (ARRAY[v, w::varchar(3)])) AS x FROM t",
            "view public.v4"
          ),
          (
            "CREATE OR REPLACE VIEW checked AS SELECT id, v FROM t WHERE v COLLATE \"C\" IN ('a', 'b') WITH "
              + "CASCADED CHECK OPTION", "view public.checked"
          ),
          ("ALTER TABLE g ALTER e SET DEFAULT 'x'", "table public.g"),
          (
            "CREATE OR REPLACE RULE r1 AS ON INSERT TO t WHERE new.v IN ('a', 'b') DO ALSO INSERT INTO log "
              + "SELECT 'a', -1 WHERE new.n BETWEEN 1 AND 2 OR new.b > 0", "rule r1 on public.t"
          ),
          (
            "DROP TRIGGER tr ON t; CREATE TRIGGER tr BEFORE UPDATE ON t FOR EACH ROW "
              + "WHEN (new.v IN ('a', 'b') AND old.n = ANY (ARRAY[1, 3]) AND old.* IS DISTINCT FROM new.*) "
              + "EXECUTE FUNCTION passes()",
            "trigger tr on public.t"
          ),
          (
            "ALTER DOMAIN dom DROP CONSTRAINT dom_check; ALTER DOMAIN dom ADD CONSTRAINT dom_check CHECK "
              + "(VALUE NOT IN ('x', 'z') AND length(VALUE) BETWEEN 1 AND 9)", "domain public.dom"
          ),
        ]
      for (sql, _) in planted { try await scene.script(on: .target, sql) }
      let report = try await scene.compareAll()
      let expected = Set(planted.map(\.1))
      #expect(
        Set(report.objects.filter { !$0.isExpected }.compactMap(\.name)) == expected, "\(report.lines)")
    }
  }
}
