/// A server certificate for 127.0.0.1 and localhost, signed by an authority made for one cluster.
enum ServerCertificate {
  /// Makes both below `directory` and returns the path of the authority's certificate.
  static func make(in directory: String) async throws -> String {
    let script = """
      set -e
      umask 077
      cd "$0"
      mkdir tls
      cd tls
      key="-nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1"
      openssl req -new -x509 -days 3 $key -subj "/CN=replicate test authority" -keyout ca.key -out ca.crt
      openssl req -new $key -subj "/CN=localhost" -keyout server.key -out server.csr
      # Clients before 15 look for an address among the names.
      printf 'subjectAltName=DNS:localhost,DNS:127.0.0.1,IP:127.0.0.1\\n' >extensions
      openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3 \
        -extfile extensions -out server.crt
      chmod 0755 .
      chmod 0644 ca.crt
      """
    try await Command.check(PostgresPrograms.asServerUser(["sh", "-c", script, directory]))
    return "\(directory)/tls/ca.crt"
  }

  static func settings(in directory: String) -> [String: String] {
    [
      "ssl": "on", "ssl_cert_file": "\(directory)/tls/server.crt",
      "ssl_key_file": "\(directory)/tls/server.key",
    ]
  }
}
