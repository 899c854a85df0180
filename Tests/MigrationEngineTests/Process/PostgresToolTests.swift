import Testing

@testable import MigrationEngine

struct PostgresToolTests {
  @Test("Of a client program's errors the details that quote rows are left out, and nothing else")
  func withoutValues() {
    let errors = """
      pg_restore: while PROCESSING TOC:
      pg_restore: error: could not execute query: ERROR:  could not create unique index "t_v"
      DETAIL:  Key (v)=(first line
      second line) is duplicated.
      HINT:  a hint
      CONTEXT:  SQL statement "SELECT 'secret'"
      Command was: CREATE UNIQUE INDEX t_v ON public.t USING btree (v);
      """
    let kept = PostgresTool.withoutValues(errors)
    #expect(
      kept == """
        pg_restore: while PROCESSING TOC:
        pg_restore: error: could not execute query: ERROR:  could not create unique index "t_v"
        HINT:  a hint
        Command was: CREATE UNIQUE INDEX t_v ON public.t USING btree (v);
        """)
  }

  @Test("A script is cut where the next entry begins, and what stands before it goes with it")
  func split() throws {
    let list = [
      "12; 1259 500 INDEX public a_idx me", "13; 2606 501 CONSTRAINT public b b_key me",
      "14; 1259 502 TABLE public c me",
    ]
    let entries = list.compactMap { SchemaEntry($0[...]) }
    let script = """
      SET check_function_bodies = false;
      --
      -- TOC entry 12 (class 1259 OID 500)
      -- Name: a_idx; Type: INDEX; Schema: public; Owner: me
      --

      CREATE INDEX a_idx ON public.a (v) WHERE v <> '
      -- TOC entry 99 (class 1259 OID 500)
      ';
      SET default_tablespace = fast;

      SET default_table_access_method = odd;

      --
      -- TOC entry 13 (class 2606 OID 501)
      -- Name: b b_key; Type: CONSTRAINT; Schema: public; Owner: me
      --

      ALTER TABLE ONLY public.b ADD CONSTRAINT b_key UNIQUE (v);
      SET default_tablespace = '';
      --
      -- TOC entry 14 (class 1259 OID 502)
      -- Name: c; Type: TABLE; Schema: public; Owner: me
      --

      CREATE TABLE public.c (v integer);
      """
    let scripts = EntryScripts.split(script, entries)
    #expect(scripts[12]?.name == "index public.a_idx")
    #expect(scripts[13]?.name == "constraint b_key on public.b")
    #expect(scripts[12]?.sql.hasPrefix("SET check_function_bodies = false;") == true)
    #expect(scripts[12]?.sql.contains("-- TOC entry 99") == true)
    #expect(scripts[12]?.sql.contains("b_key") == false)
    let second = try #require(scripts[13]?.sql)
    #expect(second.hasPrefix("SET check_function_bodies = false;") && !second.contains("a_idx"))
    #expect(second.contains("SET default_tablespace = fast;"))
    let isSet = [12, 13, 14].map { scripts[$0]?.sql.contains("SET default_t") }
    #expect(isSet == [false, true, true], "it is for what comes after it")
    let method = [13, 14].map { scripts[$0]?.sql.contains("access_method") }
    #expect(method == [false, true], "it may not be there yet, and a constraint has none")
    let third = try #require(scripts[14]?.sql)
    #expect(!third.contains("fast") && third.contains("SET default_tablespace = '';"))
  }
}
