/// Which built-in types both ends read exactly in binary, whatever their versions.
///
/// Left out: types that contain an OID (`regclass`, which means another object on the target), types without
/// a binary form, and all types of users and extensions, whose arrays and composites contain OIDs.
enum BinaryFormat {
  private static let scalars: Set<UInt32> = [
    16, 17, 18, 19, 20, 21, 23, 25, 26,  // bool bytea char name int8 int2 int4 text oid
    27, 28, 29, 5069, 2970, 5038,  // tid xid cid xid8 txid_snapshot pg_snapshot
    114, 142, 3802, 4072,  // json xml jsonb jsonpath
    600, 601, 602, 603, 604, 628, 718,  // geometric
    650, 829, 869, 774,  // cidr macaddr inet macaddr8
    700, 701, 790, 1700,  // float4 float8 money numeric
    1042, 1043,  // bpchar varchar
    1082, 1083, 1114, 1184, 1186, 1266,  // dates and times
    1560, 1562,  // bit varbit
    2950, 3614, 3615, 3220,  // uuid tsvector tsquery pg_lsn
    3904, 3906, 3908, 3910, 3912, 3926,  // ranges
    4451, 4532, 4533, 4534, 4535, 4536,  // multiranges
  ]

  private static let arrays: Set<UInt32> = [
    1000, 1001, 1002, 1003, 1016, 1005, 1007, 1009, 1028,
    1010, 1011, 1012, 271, 2949, 5039,
    199, 143, 3807, 4073,
    1017, 1018, 1019, 1020, 1027, 629, 719,
    651, 1040, 1041, 775,
    1021, 1022, 791, 1231,
    1014, 1015,
    1182, 1183, 1115, 1185, 1187, 1270,
    1561, 1563,
    2951, 3643, 3645, 3221,
    3905, 3907, 3909, 3911, 3913, 3927,
    6150, 6151, 6152, 6153, 6155, 6157,
  ]

  static func isExact(typeOID: UInt32) -> Bool { scalars.contains(typeOID) || arrays.contains(typeOID) }
}
