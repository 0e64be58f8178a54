// Longer than most: what a guardian hears, sees and does is one state machine, and reads as one.
#include "dist/guardian.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <set>

#include "dist/hang_report.hpp"
#include "dist/processes.hpp"

namespace lorashard::dist {

using kernels::Failure;
using kernels::text;

namespace {

constexpr double kTurn_s = 0.25;
constexpr int kLost = static_cast<int>(Failure::communication);
// From the first word of a hang: until everybody's state is known, until who waits for the verdict goes without it, and
// from the end of the ranks to that of a launcher that does not notice.
constexpr double kVerdict_s = 1.5, kGiveUp_s = 3.5, kLauncher_s = 5;
// Once another rank has ended the job, for the launcher to end this one; once this rank ends with an error, for it to
// say so and to end the job.
constexpr double kPatience_s = 3, kLastWords_s = 8;

volatile sig_atomic_t passed_on = 0;  // the last signal that was handed to the rank
pid_t child_of_handlers = 0;

void pass_on(int signal) {
  if (signal == SIGTERM) passed_on = signal;
  if (signal != SIGINT) ::kill(child_of_handlers, signal);  // a terminal sends that one to both
}

class Guardian {
 public:
  // `listening`: the signal mask under which it waits.
  Guardian(GuardedMemory& memory, const GuardianWire& wire, pid_t child, const sigset_t& listening)
      : memory_(memory),
        wire_(wire),
        child_(child),
        launcher_(::getppid()),
        under_mpirun_(is_launcher(launcher_)),
        listening_(listening) {}

  int run() {
    int code = -1;
    while (code < 0) {
      listen();
      code = ended();
      if (code < 0) code = turn();
    }
    return code;
  }

 private:
  int rank() const { return memory_.rank; }
  int size() const { return memory_.size; }
  std::string self() const { return text("lorashard: rank ", rank(), " (host ", memory_.own.host.data(), "): "); }

  void listen();
  void hear(const GuardianWord& word);
  int ended();
  std::string where_it_was() const;
  int turn();
  int hang_turn();
  double idle_s() const { return now_s_ - beat_s_; }
  void look_for_a_stall();
  bool nobody_works();
  GuardianWord word_of(GuardianWord::Kind kind, int code) const;
  void begin_hang(const std::string& line);
  void tell(GuardianWord::Kind kind, int code, bool everyone);
  void choose_watchers();
  bool lowest_alive() const;
  std::vector<std::string> verdict();
  int end_rank(int code);

  GuardedMemory& memory_;
  const GuardianWire& wire_;
  const pid_t child_, launcher_;
  const bool under_mpirun_;
  const sigset_t listening_;
  double now_s_ = 0;  // by turns
  std::uint64_t beats_ = 0;
  double beat_s_ = 0;  // when they last rose
  std::vector<Seen> seen_;
  std::vector<double> heard_s_;
  std::set<int> watchers_;
  std::optional<double> asked_s_;   // when this rank, idle, first asked the watchers
  std::optional<double> hang_s_;    // when it was first heard of
  std::optional<double> ending_s_;  // when another rank's end was heard of
  std::optional<double> failed_s_;  // when this rank was seen to end with an error
  int ending_code_ = kLost;
};

// Until a word arrives, or a turn is over.
void Guardian::listen() {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  const auto passed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  while (passed() < kTurn_s) {
    pollfd in{wire_.descriptor(), POLLIN, 0};
    const timespec left{0, static_cast<long>(1e9 * std::max(kTurn_s - passed(), 1e-3))};
    if (::ppoll(&in, 1, &left, &listening_) < 0) break;  // a signal: the rank may have ended
    while (const auto word = wire_.receive(memory_.job)) hear(*word);
  }
  now_s_ += std::min(passed(), 2 * kTurn_s);
}

void Guardian::hear(const GuardianWord& word) {
  if (word.rank < 0 || word.rank >= std::ssize(seen_)) return;
  Seen& seen = seen_[word.rank];
  seen.heard = true;
  seen.stopped = word.stopped != 0;
  seen.idle_s = word.idle_s;
  seen.limit_s = word.limit_s;
  seen.state = word.state;
  heard_s_[word.rank] = now_s_;
  if (word.kind == GuardianWord::Kind::asks)
    wire_.send(memory_.peers()[word.rank], word_of(GuardianWord::Kind::alive, 0));
  if (word.kind == GuardianWord::Kind::stalled) begin_hang("");
  if (word.kind == GuardianWord::Kind::ending && !ending_s_) {
    ending_s_ = now_s_;
    ending_code_ = word.code;
  }
}

// The exit code when the rank has ended, -1 before.
int Guardian::ended() {
  int status = 0;
  if (::waitpid(child_, &status, WNOHANG) != child_) return -1;
  if (WIFEXITED(status)) {
    const int code = WEXITSTATUS(status);
    const bool told = code == 0 || memory_.returned || memory_.failure != 0 || ending_s_ || size() == 0;
    if (code != 0 && code != static_cast<int>(Failure::preempted)) tell(GuardianWord::Kind::ending, code, true);
    // A library that ends the process by itself (libgomp, when it finds no memory).
    if (!told) print_line(text(self(), "a library ended it with code ", code, where_it_was()));
    return code;
  }
  const int signal = WTERMSIG(status), code = kSignalCode + signal;
  // Who was told to go, or saw another go first, has nothing to add.
  const bool asked = passed_on == SIGTERM && (signal == SIGTERM || signal == SIGKILL);
  if (asked || ending_s_ || memory_.failure != 0 || signal == SIGINT) return ending_s_ ? ending_code_ : code;
  tell(GuardianWord::Kind::ending, code, true);
  print_line(text(self(), "ended by signal ", signal, " (", ::strsignal(signal), ")", where_it_was()));
  return code;
}

std::string Guardian::where_it_was() const {
  const std::string place = place_text(memory_.state.snapshot()), wait = wait_text(memory_.state.snapshot());
  if (place.empty() && wait.empty()) return "";
  return text(" in ", wait, wait.empty() || place.empty() ? "" : ", ", place);
}

int Guardian::turn() {
  if (seen_.empty() && size() > 0) {
    seen_.resize(static_cast<std::size_t>(size()));
    heard_s_.resize(seen_.size());
    for (int i = 0; i < size(); ++i) seen_[i].host = memory_.peers()[i].host.data();
    choose_watchers();
  }
  if (under_mpirun_ && ::getppid() != launcher_) return end_rank(kLost);  // nobody is left to end the job
  if (hang_s_) return hang_turn();
  if (ending_s_ && now_s_ - *ending_s_ > kPatience_s) return end_rank(ending_code_);
  if (memory_.failure != 0 && !failed_s_) failed_s_ = now_s_;
  if (failed_s_ && now_s_ - *failed_s_ > kLastWords_s) return end_rank(memory_.failure);
  tell(GuardianWord::Kind::alive, 0, false);
  look_for_a_stall();
  return -1;
}

void Guardian::look_for_a_stall() {
  const std::uint64_t beats = memory_.state.place.beats;
  if (beats != beats_) beat_s_ = now_s_;
  beats_ = beats;
  const double limit_s = memory_.state.limit_s;
  const bool idle = limit_s > 0 && idle_s() >= limit_s && !ending_s_;
  if (!idle) asked_s_.reset();
  if (idle && nobody_works()) begin_hang(text("no progress for ", std::llround(idle_s()), " s"));
}

bool Guardian::nobody_works() {
  const auto lives = [&](int other) { return seen_[other].heard && now_s_ - heard_s_[other] < kSilent_s; };
  if (watchers_.empty()) return true;  // alone
  if (watchers_.contains(rank())) {
    for (int other = 0; other < size(); ++other) {
      const Seen& seen = seen_[other];
      if (other != rank() && lives(other) && (seen.limit_s <= 0 || seen.idle_s < seen.limit_s)) return false;
    }
    return true;
  }
  // Watchers know; where one answers, it is theirs to say.
  if (!asked_s_) asked_s_ = now_s_;
  tell(GuardianWord::Kind::asks, 0, false);
  return now_s_ - *asked_s_ >= kSilent_s && std::none_of(watchers_.begin(), watchers_.end(), lives);
}

// `line` is empty where another rank's stall was heard of.
void Guardian::begin_hang(const std::string& line) {
  if (hang_s_ || memory_.failure != 0) return;
  hang_s_ = now_s_;
  const Snapshot state = memory_.state.snapshot();
  std::string where = wait_text(state);
  if (!where.empty()) {
    where = "waits in " + where;
    const std::vector<int> peers = waited_for(rank(), size(), state);
    if (!peers.empty()) where += text(" for rank", peers.size() > 1 ? "s " : " ", ranges_text(peers));
  }
  const std::string place = place_text(state);
  for (const std::string& part : {place, std::string(is_stopped(child_) ? "stopped by a signal" : "")})
    if (!part.empty()) where += (where.empty() ? "" : "; ") + part;
  print_line(self() + (line.empty() ? "the job hangs" : line) + (where.empty() ? "" : ": ") + where);
  tell(GuardianWord::Kind::stalled, 0, !line.empty());  // who heard of it need not tell those that did too
}

int Guardian::hang_turn() {
  const double since_s = now_s_ - *hang_s_;
  tell(GuardianWord::Kind::stalled, 0, false);
  if (ending_s_) return end_rank(kLost);
  if (since_s >= kVerdict_s && lowest_alive()) {
    for (const std::string& line : verdict()) print_line("lorashard: " + line);
    tell(GuardianWord::Kind::ending, kLost, true);
    return end_rank(kLost);
  }
  return since_s >= kGiveUp_s ? end_rank(kLost) : -1;
}

std::vector<std::string> Guardian::verdict() {
  if (seen_.empty()) return {text("rank ", rank(), " hangs before it knows its peers")};
  for (int i = 0; i < size(); ++i) seen_[i].silent_s = now_s_ - heard_s_[i];
  Seen& own = seen_[rank()];
  own.heard = true;
  own.silent_s = 0;
  own.stopped = is_stopped(child_);
  own.state = memory_.state.snapshot();
  return hang_report(seen_);
}

// Of those that are told how all ranks are.
bool Guardian::lowest_alive() const {
  if (!seen_.empty() && !watchers_.contains(rank())) return false;
  for (const int watcher : watchers_)
    if (watcher < rank() && seen_[watcher].heard && now_s_ - heard_s_[watcher] < kSilent_s) return false;
  return true;
}

// The first ranks, and the first of the first hosts: wherever a network breaks, both sides have one.
void Guardian::choose_watchers() {
  constexpr int kFirstRanks = 4;
  constexpr std::size_t kHosts = 16;
  std::set<std::string> hosts;
  for (int i = 0; i < size(); ++i) {
    const bool own_host = seen_[i].host == seen_[rank()].host;
    const bool first_of_host = (hosts.size() < kHosts || own_host) && hosts.insert(seen_[i].host).second;
    if (i < kFirstRanks || first_of_host) watchers_.insert(i);
  }
}

GuardianWord Guardian::word_of(GuardianWord::Kind kind, int code) const {
  GuardianWord word;
  word.job = memory_.job;
  word.kind = kind;
  word.rank = rank();
  word.code = code;
  word.stopped = kind == GuardianWord::Kind::stalled && is_stopped(child_);
  word.idle_s = idle_s();
  word.limit_s = memory_.state.limit_s;
  word.state = memory_.state.snapshot();
  return word;
}

void Guardian::tell(GuardianWord::Kind kind, int code, bool everyone) {
  if (size() < 2 || seen_.empty()) return;
  const GuardianWord word = word_of(kind, code);
  const auto send = [&](int to) {
    if (to != rank()) wire_.send(memory_.peers()[to], word);
  };
  if (everyone)
    for (int to = 0; to < size(); ++to) send(to);
  else
    for (const int to : watchers_) send(to);
}

int Guardian::end_rank(int code) {
  ::kill(child_, SIGKILL);
  // A process that waits for a file system that is gone cannot be killed; the job ends without it.
  for (int i = 0; i < 100 && ::waitpid(child_, nullptr, WNOHANG) == 0; ++i) ::usleep(20'000);
  if (under_mpirun_ && ::getppid() == launcher_) end_launcher_later(launcher_, kLauncher_s);
  return code;
}

void handle_signals(pid_t child) {
  child_of_handlers = child;
  struct sigaction action {};
  action.sa_handler = pass_on;
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2}) ::sigaction(signal, &action, nullptr);
  action.sa_handler = [](int) {};  // only to wake up
  ::sigaction(SIGCHLD, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

bool wanted() {
  const char* const value = std::getenv("LORASHARD_GUARDIAN");
  return !value || std::strcmp(value, "0") != 0;
}

}  // namespace

GuardedMemory& start_guardian(double limit_s) {
  const std::size_t bytes = sizeof(GuardedMemory) + GuardedMemory::kMostRanks * sizeof(GuardianAddress);
  void* const pages = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED)
    kernels::fail(Failure::memory, text("cannot map ", bytes, " bytes to share with the guardian"));
  GuardedMemory& memory = *new (pages) GuardedMemory;
  memory.state.limit_s = limit_s;
  if (!wanted()) return memory;
  char host[66] = "";
  ::gethostname(host, sizeof host - 1);
  const GuardianWire wire;
  memory.own = wire.address(host);
  std::fflush(nullptr);
  sigset_t chld, before;
  ::sigemptyset(&chld);
  ::sigaddset(&chld, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &chld, &before);  // it shows while the guardian waits for it, and at no other time
  const pid_t parent = ::getpid(), child = ::fork();
  if (child > 0) {
    handle_signals(child);
    ::prctl(PR_SET_NAME, "lora-guardian");
    ::_exit(Guardian(memory, wire, child, before).run());
  }
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  if (child < 0) return memory;
  ::prctl(PR_SET_NAME, "lorashard");  // main.cpp starts itself anew by a name that says nothing
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(kSignalCode + SIGKILL);
  return memory;
}

}  // namespace lorashard::dist
