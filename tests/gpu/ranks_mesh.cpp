// ranks: 1 2 4
// The pipeline's schedules and every mesh on the cuda device: messages whose contents say what they are, and all axes at
// work at once.
#include <algorithm>

#include "dist/schedule.hpp"
#include "tests/gpu/cuda_verbs.hpp"

namespace lorashard::dist {
namespace {

class CudaMesh : public CudaVerbs {};

// Executes a schedule on messages whose contents say what they are. Kept as in core/pipeline.hpp: one tensor under way
// in each direction, and, where asked for, the next receive begun before the work in front of it.
class Stage {
 public:
  Stage(Communicator& group, const ScheduleShape& shape, bool ahead) : group_(group), shape_(shape), ahead_(ahead) {}

  void run() {
    const std::vector<Action> actions = make_schedule(shape_, group_.rank());
    for (auto action = actions.begin(); action != actions.end(); ++action) {
      if (ahead_ && !receives(*action))
        if (const auto next = std::find_if(action, actions.end(), receives);
            next != actions.end() && !incoming_.pending)
          begin_receive(*next);
      step(*action);
    }
    for (Held& held : held_) held.pending.reset();
    for (const auto& [code, data] : received_)
      EXPECT_EQ(get<float>(data.view()), std::vector<float>(33, static_cast<float>(code))) << code;
    received_.clear();
  }

 private:
  struct Held {
    Tensor data;
    std::unique_ptr<Pending> pending;
  };
  static bool receives(const Action& action) {
    return action.kind == ActionKind::receive_forward || action.kind == ActionKind::receive_backward;
  }
  int tag(const Action& action) const { return route(shape_, group_.rank(), action).tag; }

  void begin_receive(const Action& action) {
    incoming_.data = Tensor(device(), Category::activation, DType::f32, 3, 11);
    const Route from = route(shape_, group_.rank(), action);
    incoming_.pending = group_.start_receive(incoming_.data, from.peer, from.tag);
  }
  void step(const Action& action) {
    if (receives(action)) {
      if (!incoming_.pending) begin_receive(action);
      incoming_.pending->wait();
      incoming_.pending.reset();
      received_.emplace_back(tag(action), std::move(incoming_.data));
    } else if (action.kind == ActionKind::send_forward || action.kind == ActionKind::send_backward) {
      Held& held = held_[action.kind == ActionKind::send_backward];
      held.pending.reset();
      held.data = put(std::vector<float>(33, static_cast<float>(tag(action))), 3);
      const Route to = route(shape_, group_.rank(), action);
      held.pending = group_.send(held.data, to.peer, to.tag);
    }
  }

  Communicator& group_;
  ScheduleShape shape_;
  bool ahead_;
  Held incoming_, held_[2];
  std::vector<std::pair<int, Tensor>> received_;
};

TEST_F(CudaMesh, SchedulesDeliverEveryMessage) {
  for (const ScheduleKind kind : {ScheduleKind::gpipe, ScheduleKind::one_f_one_b, ScheduleKind::interleaved})
    for (const int microbatches : {1, 3, 4, 7})
      for (const int chunks : {1, 2, 3})
        for (const bool ahead : {false, true}) {
          if (chunks > 1 && kind != ScheduleKind::interleaved) continue;
          SCOPED_TRACE(
              text(name(kind), ", ", microbatches, " microbatches, ", chunks, " chunks", ahead ? ", ahead" : ""));
          Stage(*group_, {kind, size(), microbatches, chunks}, ahead).run();
        }
}

// All axes at work at once: a sum over the replicas under way, messages under way, sums over tensor and data in line.
void expect_all_axes(const Mesh& mesh) {
  const Index n = 300;
  Communicator& ring = mesh.pipeline();
  Tensor replica = put(numbers(n, mesh.replica().rank() + 1)), tensor = put(numbers(n, mesh.tensor().rank() + 1));
  Tensor data = put(numbers(n, mesh.data().rank() + 1)), world = put(numbers(n, mesh.rank() + 1));
  Tensor out = put(numbers(n, mesh.rank() + 1)), in(device(), Category::activation, DType::f32, 1, n);
  const auto sum = mesh.replica().start_all_reduce(replica);
  const int next = (ring.rank() + 1) % ring.size(), before = (ring.rank() + ring.size() - 1) % ring.size();
  const auto sent = ring.send(out, next, 0);
  mesh.tensor().all_reduce(tensor);
  const auto received = ring.start_receive(in, before, 0);
  mesh.data().all_reduce(data);
  mesh.world().all_reduce(world);
  received->wait();
  sent->wait();
  sum->wait();
  EXPECT_EQ(get<float>(tensor.view()), numbers(n, triangle(mesh.tensor().size())));
  EXPECT_EQ(get<float>(data.view()), numbers(n, triangle(mesh.data().size())));
  EXPECT_EQ(get<float>(replica.view()), numbers(n, triangle(mesh.replica().size())));
  EXPECT_EQ(get<float>(world.view()), numbers(n, triangle(mesh.world().size())));
  MeshPoint sender = mesh.point();
  sender.pipeline = before;
  EXPECT_EQ(get<float>(in.view()), numbers(n, rank_of(mesh.extents(), sender) + 1));
}

TEST_F(CudaMesh, EveryMesh) {
  for (int ranks = 1; ranks <= runtime().size(); ++ranks)
    for (int tensor = 1; tensor <= ranks; ++tensor)
      for (int pipeline = 1; pipeline <= ranks; ++pipeline) {
        if (ranks % (tensor * pipeline) != 0) continue;
        const MeshExtents extents = make_extents(ranks, tensor, pipeline);
        SCOPED_TRACE(to_string(extents));
        const std::unique_ptr<Mesh> mesh = runtime().make_sub_mesh(device(), extents);
        if (mesh) expect_all_axes(*mesh);
      }
}

}  // namespace
}  // namespace lorashard::dist
