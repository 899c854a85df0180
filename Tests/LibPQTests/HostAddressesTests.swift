import Testing

@testable import LibPQ

@Suite("Addresses of a host")
struct HostAddressesTests {
  @Test("A name leads to its addresses, an address to itself, and what nobody has to none")
  func addresses() async {
    #expect(await HostAddresses.of("localhost").contains("127.0.0.1"))
    #expect(await HostAddresses.of("127.0.0.1") == ["127.0.0.1"])
    #expect(await HostAddresses.of("nobody.invalid").isEmpty)
  }
}
