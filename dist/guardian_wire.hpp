// Words between the guardians of a job: datagrams of fixed size, sent to every address that a peer's host has. They may
// be lost, repeated, or never get through at all (a firewall): the job then ends as it would have, and less is said
// about why. A random word that only this job knows tells its datagrams from others.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "dist/rank_state.hpp"

namespace lorashard::dist {

inline constexpr int kMostAddresses = 4;

// Where a guardian is reached.
struct GuardianAddress {
  std::array<std::uint32_t, kMostAddresses> ipv4{};  // network order; 0: none
  std::uint16_t port = 0;                            // network order
  std::array<char, 66> host{};
};

struct GuardianWord {
  enum class Kind : std::int32_t {
    alive,    // how its rank is
    asks,     // its rank makes no progress: does anybody's?
    stalled,  // nobody's does: say where yours is, then wait for the end
    ending,   // the job ends with `code`
  };
  std::uint64_t job = 0;
  Kind kind = Kind::alive;
  std::int32_t rank = 0, code = 0, stopped = 0;
  double idle_s = 0, limit_s = 0;  // since its rank did anything, and how long that may last (0: for ever)
  Snapshot state;
};

// One datagram socket. Move-only. Nothing throws: a guardian without one goes on alone.
class GuardianWire {
 public:
  GuardianWire();
  ~GuardianWire();
  GuardianWire(const GuardianWire&) = delete;
  GuardianWire& operator=(const GuardianWire&) = delete;

  int descriptor() const { return socket_; }  // -1: none
  // This host's addresses and the socket's port. `host` is cut to what fits.
  GuardianAddress address(const std::string& host) const;
  void send(const GuardianAddress& to, const GuardianWord& word) const;
  // What has arrived, one at a time; none when nothing has.
  std::optional<GuardianWord> receive(std::uint64_t job) const;

 private:
  int socket_ = -1;
};

}  // namespace lorashard::dist
