#include "dist/guardian_wire.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace lorashard::dist {

static_assert(std::is_trivially_copyable_v<GuardianWord> && std::is_trivially_copyable_v<GuardianAddress>);

namespace {

sockaddr_in endpoint(std::uint32_t ipv4, std::uint16_t port) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = ipv4;
  to.sin_port = port;
  return to;
}

bool same_host(const GuardianAddress& a, const std::string& host) { return host == a.host.data(); }

}  // namespace

GuardianWire::GuardianWire() : socket_(::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
  const sockaddr_in any = endpoint(htonl(INADDR_ANY), 0);
  if (socket_ < 0 || ::bind(socket_, reinterpret_cast<const sockaddr*>(&any), sizeof any) == 0) return;
  ::close(socket_);
  socket_ = -1;
}

GuardianWire::~GuardianWire() {
  if (socket_ >= 0) ::close(socket_);
}

GuardianAddress GuardianWire::address(const std::string& host) const {
  GuardianAddress own;
  host.copy(own.host.data(), own.host.size() - 1);
  sockaddr_in bound{};
  socklen_t length = sizeof bound;
  if (socket_ < 0 || ::getsockname(socket_, reinterpret_cast<sockaddr*>(&bound), &length) != 0) return own;
  own.port = bound.sin_port;
  ifaddrs* interfaces = nullptr;
  if (::getifaddrs(&interfaces) != 0) return own;
  int count = 0;
  for (const ifaddrs* i = interfaces; i && count < kMostAddresses; i = i->ifa_next) {
    const bool usable = i->ifa_addr && i->ifa_addr->sa_family == AF_INET && (i->ifa_flags & IFF_UP) &&
                        !(i->ifa_flags & IFF_LOOPBACK);
    if (usable) own.ipv4[count++] = reinterpret_cast<const sockaddr_in*>(i->ifa_addr)->sin_addr.s_addr;
  }
  ::freeifaddrs(interfaces);
  return own;
}

void GuardianWire::send(const GuardianAddress& to, const GuardianWord& word) const {
  if (socket_ < 0 || to.port == 0) return;
  char own_host[66] = "";
  ::gethostname(own_host, sizeof own_host - 1);
  std::array<std::uint32_t, kMostAddresses> at = to.ipv4;
  if (same_host(to, own_host)) at = {htonl(INADDR_LOOPBACK)};
  for (const std::uint32_t ipv4 : at) {
    if (ipv4 == 0) continue;
    const sockaddr_in target = endpoint(ipv4, to.port);
    // An error is of one before, or says that nobody is there: both are no news here.
    ::sendto(socket_, &word, sizeof word, MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&target), sizeof target);
  }
}

std::optional<GuardianWord> GuardianWire::receive(std::uint64_t job) const {
  if (socket_ < 0) return std::nullopt;
  GuardianWord word;
  for (;;) {
    const ssize_t bytes = ::recv(socket_, &word, sizeof word, MSG_TRUNC);
    if (bytes < 0 && errno != ECONNREFUSED && errno != EINTR) return std::nullopt;
    if (bytes != static_cast<ssize_t>(sizeof word) || word.job != job) continue;
    for (char* text : {word.state.work, word.state.operation, word.state.waits_in}) text[kWord - 1] = '\0';
    return word;
  }
}

}  // namespace lorashard::dist
