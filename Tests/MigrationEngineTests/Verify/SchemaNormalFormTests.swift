import Testing

@testable import MigrationEngine

/// What PostgreSQL writes of an expression, and what it writes once it has read that.
struct SchemaNormalFormTests {
  @Test(arguments: [
    (
      "((v)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[]))",
      "((v)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text]))"
    ),
    (
      "((ARRAY['c''d'::character varying, 'i)j'::character varying, '(ARRAY['::character varying])::text[])",
      "(ARRAY[('c''d'::character varying)::text, ('i)j'::character varying)::text, "
        + "('(ARRAY['::character varying)::text])"
    ),
    (
      "(n = ANY ((ARRAY[(s)::bigint, b])::numeric[]))",
      "(n = ANY (ARRAY[((s)::bigint)::numeric, (b)::numeric]))"
    ),
    (
      "takes((ARRAY[ARRAY[v], ARRAY[w]])::text[])", "takes(ARRAY[ARRAY[(v)::text], ARRAY[(w)::text]])"
    ),
    (
      "(ARRAY[(vs)::text[], (ARRAY['x'::character varying])::text[]])",
      "(ARRAY[(vs)::text[], ARRAY[('x'::character varying)::text]])"
    ),
    (
      "((ARRAY[(v COLLATE \"C\"), w])::text[])", "(ARRAY[((v)::text COLLATE \"C\"), (w)::text])"
    ),
    (
      "takes((ARRAY[t.v,\n        CASE\n            WHEN t.b THEN t.w\n        END])::text[])",
      "takes(ARRAY[(t.v)::text, (\n        CASE\n            WHEN t.b THEN t.w\n        END)::text])"
    ),
    (
      "((ARRAY['abcd'::character varying, v])::character varying(3)[])",
      "(ARRAY['abcd'::character varying(3), (v)::character varying(3)])"
    ),
    (
      "((ARRAY[a, b])::timestamp(3) without time zone[])",
      "(ARRAY[(a)::timestamp(3) without time zone, (b)::timestamp(3) without time zone])"
    ),
    (
      "((ARRAY[a])::\"S x\".\"D \"\"y\"[])", "(ARRAY[(a)::\"S x\".\"D \"\"y\"])"
    ),
    // As statistics objects are written.
    (
      "v::text = ANY (ARRAY['a'::character varying, b || c]::text[])",
      "v::text = ANY (ARRAY['a'::character varying::text, (b || c)::text])"
    ),
    ("(((a >= 1) AND (a <= 2)) AND (b > 0))", "((a >= 1) AND (a <= 2) AND (b > 0))"),
    ("((((a OR b)) OR c) OR d)", "((((a OR b)) OR c) OR d)"),
    ("(((a OR b) OR c) OR d)", "(a OR b OR c OR d)"),
    ("(n > (- 1))", "(n > '-1'::integer)"), ("(n > (- 1.5))", "(n > '-1.5'::numeric)"),
    ("(v IN ( SELECT 'a'::text))", "(v IN ( SELECT 'a'::text AS text))"),
    (
      " SELECT 'a'::character varying,\n    NULL::timestamp without time zone\n   FROM t",
      " SELECT 'a'::character varying AS \"varchar\",\n    NULL::timestamp without time zone AS "
        + "\"timestamp\"\n   FROM t"
    ),
    (
      "( SELECT ( SELECT ('a'::text COLLATE \"C\")))",
      "( SELECT ( SELECT ('a'::text COLLATE \"C\") AS text) AS text)"
    ),
    ("t LEFT JOIN u ON TRUE", "t LEFT JOIN u ON (true)"),
  ])
  func `what is only written differently gets one form`(first: String, second: String) {
    #expect(SchemaNormalForm.of(first) == SchemaNormalForm.of(second))
    #expect(SchemaNormalForm.of(SchemaNormalForm.of(first)) == SchemaNormalForm.of(first))
  }

  @Test(arguments: [
    ("((ARRAY['a'::text])::character varying[])", "((ARRAY['b'::text])::character varying[])"),
    ("((ARRAY[a, b])::text[])", "(ARRAY[(b)::text, (a)::text])"),
    ("((ARRAY[a, b])::text[])", "(ARRAY[(a)::text, b])"),
    ("((ARRAY[a])::character varying(3)[])", "((ARRAY[a])::character varying(4)[])"),
    ("((ARRAY[a])::text[])", "((ARRAY[a])::public.of_text)"),
    ("((a AND b) OR c)", "(a AND (b OR c))"), ("((a OR b) AND c)", "(a OR b AND c)"),
    ("(a AND (b OR c))", "(a AND b OR c)"), ("(a - 1)", "(a '-1'::integer)"), ("(- a)", "a"),
    ("( SELECT 'a'::text AS b)", "( SELECT 'a'::text)"),
    ("( SELECT 'a'::text AS text)", "( SELECT 'b'::text)"),
    ("'((a AND b) AND c)'", "'(a AND b AND c)'"), ("\"((a AND b) AND c)\"", "\"(a AND b AND c)\""),
    ("$$((a AND b) AND c)$$", "$$(a AND b AND c)$$"), ("$_X$(- 1)$_X$", "$_X$'-1'::integer$_X$"),
    ("(v ~~ 'x'::text)", "(v !~~ 'x'::text)"),
  ])
  func `what means something else keeps its own form`(first: String, second: String) {
    #expect(SchemaNormalForm.of(first) != SchemaNormalForm.of(second))
  }

  @Test(arguments: [
    ("SELECT t.a,\n    t.\"B c\" FROM public.t", "SELECT a,\n    \"B c\" FROM t"),
    ("\"T x\".a = 1.5", "a = 1.5"), ("'t.a' = \"t.a\"", "'t.a' = \"t.a\""), ("$$ t.a $$", "$$ t.a $$"),
  ])
  func `names can be compared without what they belong to`(text: String, bare: String) {
    #expect(SchemaNormalForm.withoutQualifiers(text) == bare)
  }

  @Test(arguments: [
    "", "'no end", "(no end", "no begin)", "(a]", "\"x", "$$ no end", "ARRAY[", "::", "a::", "(ARRAY[a])::",
    "(ARRAY[a])::text[", "$1 + $2", "AS x", "AND", "( AND b)", String(repeating: "(", count: 5000),
    String(repeating: "(", count: 5000) + String(repeating: ")", count: 5000), "\u{0}\u{1F600}'é'",
  ])
  func `what cannot be read stays as it is`(text: String) {
    #expect(SchemaNormalForm.of(text) == text)
  }
}
