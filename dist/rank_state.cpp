#include "dist/rank_state.hpp"

#include <algorithm>
#include <cstring>

namespace lorashard::dist {

using kernels::text;

namespace {

constexpr const char* kGroups[kGroupCount] = {"all", "world", "tensor", "pipeline", "data", "replica"};

void copy_word(char (&to)[kWord], const char* from) {
  std::memset(to, 0, kWord);
  if (from) std::strncpy(to, from, kWord - 1);
}

bool is(const char* word, const char* other) { return std::strcmp(word, other) == 0; }

}  // namespace

const char* name(Group group) { return kGroups[static_cast<int>(group)]; }

Group group_named(const std::string& axis) {
  const auto found = std::find(std::begin(kGroups), std::end(kGroups), axis);
  return found == std::end(kGroups) ? Group::all : static_cast<Group>(found - std::begin(kGroups));
}

std::string place_text(const Snapshot& s) {
  std::string place;
  const auto add = [&](const std::string& part) { place += (place.empty() ? "" : ", ") + part; };
  if (s.step >= 0) add(text("step ", s.step));
  const bool in_a_pass = is(s.work, "forward") || is(s.work, "backward");
  if (s.work[0] && in_a_pass && s.microbatch >= 0) add(text(s.work, " of microbatch ", s.microbatch));
  if (s.work[0] && !in_a_pass) add(s.work);
  if (s.layer >= 0) add(text("layer ", s.layer));
  const auto unsaid = {"other", "tensor", "pipeline", "data"};  // traffic: wait_text says it better
  if (s.operation[0] && std::none_of(unsaid.begin(), unsaid.end(), [&](const char* w) { return is(s.operation, w); }))
    add(s.operation);
  return place;
}

std::string wait_text(const Snapshot& s) {
  if (!s.waits_in[0]) return "";
  const Group group = static_cast<Group>(std::clamp(s.group, 0, kGroupCount - 1));
  const std::string number = s.peer < 0 && s.number > 0 ? text(" ", s.number) : "";
  return text(s.waits_in, number, group == Group::all ? "" : text(" over axis ", name(group)));
}

void RankState::Wait::set(const char* in, Group of, int with, std::uint64_t n) {
  group = static_cast<int>(of);
  peer = with;
  number = n;
  verb = in;
}

// What holds up the device: of several, the one that no other group's work stands before.
const RankState::Wait& RankState::wait() const {
  if (host_.verb.load()) return host_;
  for (const Group group : {Group::tensor, Group::pipeline, Group::data, Group::replica, Group::world})
    if (const Wait& queued = device_[static_cast<int>(group)]; queued.verb.load() && queued.beats == place.beats)
      return queued;
  return host_;
}

Snapshot RankState::snapshot() const {
  Snapshot s;
  s.beats = place.beats;
  s.step = place.step;
  s.layer = place.layer;
  s.microbatch = place.microbatch;
  copy_word(s.work, place.work);
  copy_word(s.operation, place.operation);
  const Wait& wait = this->wait();
  copy_word(s.waits_in, wait.verb);
  s.group = wait.group;
  s.peer = wait.peer;
  s.number = wait.number;
  for (int g = 0; g < kGroupCount; ++g) s.entered[g] = entered_[g];
  s.mesh = mesh_;
  s.tensor = tensor_;
  s.pipeline = pipeline_;
  s.data = data_;
  return s;
}

void RankState::begin_mesh(const MeshExtents& extents) {
  for (auto& entered : entered_) entered = 0;
  tensor_ = extents.tensor;
  pipeline_ = extents.pipeline;
  data_ = extents.data;
  ++mesh_;
}

void RankState::device_waits_in(const char* verb, Group group, int peer, std::uint64_t number) {
  Wait& queued = device_[static_cast<int>(group)];
  queued.beats = place.beats.load();
  queued.set(verb, group, peer, number);
}

WaitScope::WaitScope(RankState* state, const char* verb, Group group, int peer) : state_(state) {
  if (!state_) return;
  state_->host_.set(verb, group, peer, peer < 0 ? state_->count(group) : 0);
  state_->place.beat();
}

WaitScope::~WaitScope() {
  if (!state_) return;
  state_->host_.verb = nullptr;
  state_->place.beat();
}

}  // namespace lorashard::dist
