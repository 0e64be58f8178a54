// Event files, read by a reader of their frames and messages of our own, and a run's against its metrics.jsonl.
#include <gmock/gmock.h>

#include <bit>
#include <boost/json.hpp>
#include <chrono>
#include <cstdint>

#include "launch/event_file.hpp"
#include "tests/launch/program.hpp"

namespace lorashard::launch {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

// CRC-32C by its definition, bit by bit (RFC 3720, appendix B.4).
std::uint32_t crc_32c(const std::string& data) {
  std::uint32_t crc = ~0U;
  for (const unsigned char byte : data) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78U : 0);
  }
  return ~crc;
}

// Reads from the front of some bytes; what is too short throws std::out_of_range.
class Bytes {
 public:
  explicit Bytes(std::string data) : data_(std::move(data)) {}
  bool empty() const { return at_ == data_.size(); }
  std::string take(std::size_t count) {
    if (count > data_.size() - at_) throw std::out_of_range("a record that is cut short");
    at_ += count;
    return data_.substr(at_ - count, count);
  }
  std::uint64_t little_endian(std::size_t count) {
    std::uint64_t value = 0;
    const std::string taken = take(count);
    for (std::size_t i = count; i-- > 0;) value = value << 8 | static_cast<unsigned char>(taken[i]);
    return value;
  }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const std::uint64_t byte = little_endian(1);
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  }

 private:
  std::string data_;
  std::size_t at_ = 0;
};

struct Event {
  double wall_time = 0;
  std::uint64_t step = 0;
  std::string version;
  std::uint64_t session_status = 0;
  std::vector<std::pair<std::string, float>> values;
};

std::uint32_t unmasked(std::uint64_t masked) { return std::rotl(static_cast<std::uint32_t>(masked) - 0xa282ead8U, 15); }

std::pair<std::string, float> value_of(Bytes message) {
  std::pair<std::string, float> value;
  while (!message.empty()) switch (const std::uint64_t key = message.varint()) {
      case 1 << 3 | 2:
        value.first = message.take(message.varint());
        break;
      case 2 << 3 | 5:
        value.second = std::bit_cast<float>(static_cast<std::uint32_t>(message.little_endian(4)));
        break;
      default:
        ADD_FAILURE() << "key " << key << " in a value";
    }
  return value;
}

Event event_of(Bytes message) {
  Event event;
  const auto inner = [&] { return Bytes(message.take(message.varint())); };
  while (!message.empty()) switch (const std::uint64_t key = message.varint()) {
      case 1 << 3 | 1:
        event.wall_time = std::bit_cast<double>(message.little_endian(8));
        break;
      case 2 << 3 | 0:
        event.step = message.varint();
        break;
      case 3 << 3 | 2:
        event.version = message.take(message.varint());
        break;
      case 5 << 3 | 2:
        for (Bytes summary = inner(); !summary.empty();) {
          EXPECT_EQ(summary.varint(), std::uint64_t{1 << 3 | 2});
          event.values.push_back(value_of(Bytes(summary.take(summary.varint()))));
        }
        break;
      case 7 << 3 | 2:
        for (Bytes log = inner(); !log.empty();) {
          EXPECT_EQ(log.varint(), std::uint64_t{1 << 3 | 0});
          event.session_status = log.varint();
        }
        break;
      default:
        ADD_FAILURE() << "key " << key << " in an event";
        return event;
    }
  return event;
}

std::vector<Event> events_of(const std::filesystem::path& path) {
  std::vector<Event> events;
  for (Bytes file(content_of(path)); !file.empty();) {
    const std::string length = file.take(8);
    EXPECT_EQ(unmasked(file.little_endian(4)), crc_32c(length));
    const std::string record = file.take(Bytes(length).little_endian(8));
    EXPECT_EQ(unmasked(file.little_endian(4)), crc_32c(record));
    events.push_back(event_of(Bytes(record)));
  }
  return events;
}

// In the order of their names, as TensorBoard reads them.
std::vector<std::filesystem::path> files_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

TEST(Crc32C, OfKnownVectors) {
  EXPECT_EQ(crc_32c("123456789"), 0xe3069283U);
  EXPECT_EQ(crc_32c(std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(crc_32c(std::string(32, '\xff')), 0x62a8ab43U);
}

const core::StepReport kReport{.step = 300, .loss = 0.1, .grad_norm = 2, .lr = 1e-4, .tokens = 32};

TEST(TaggedValues, AreWhatAStepHas) {
  EXPECT_THAT(tagged_values(kReport, 0.5, {}),
              ElementsAre(Pair("loss", 0.1), Pair("grad_norm", 2), Pair("lr", 1e-4), Pair("tokens_per_s", 64)));
  core::StepReport report = kReport;
  report.layers = {{.layer = 3, .adapted = true, .a_norm = 1, .b_norm = 2, .grad_norm = 3},
                   {.layer = 12, .grad_norm = 4}};
  const TaggedValues values = tagged_values(report, 0.5, {{"a.h5", 5}, {"b.h5", 6}});
  EXPECT_THAT(TaggedValues(values.begin() + 4, values.end()),
              ElementsAre(Pair("valid_loss", 5), Pair("valid_losses/a.h5", 5), Pair("valid_losses/b.h5", 6),
                          Pair("layer_03/a_norm", 1), Pair("layer_03/b_norm", 2), Pair("layer_03/grad_norm", 3),
                          Pair("layer_12/grad_norm", 4)));
}

class EventFiles : public Program {};

TEST_F(EventFiles, HoldAVersionAStartAndTheSteps) {
  const std::chrono::duration<double> before = std::chrono::system_clock::now().time_since_epoch();
  {
    EventFile file(at("events"), 299);
    file.append(300, {{"loss", 0.1}, {std::string(200, 'x'), -1e30}});
    file.append(1'000'000'000'000, {});
  }
  ASSERT_EQ(files_in(at("events")).size(), 1u);
  const std::filesystem::path path = files_in(at("events"))[0];
  EXPECT_THAT(path.filename().string(), testing::ContainsRegex("^events\\.out\\.tfevents\\.[0-9]{10}\\..+\\.[0-9]+$"));
  const std::vector<Event> events = events_of(path);
  ASSERT_EQ(events.size(), 4u);
  for (const Event& event : events) {
    EXPECT_GE(event.wall_time, before.count());
    EXPECT_LE(event.wall_time, before.count() + 60);
  }
  EXPECT_EQ(events[0].version, "brain.Event:2");
  EXPECT_EQ(events[1].step, 299u);
  EXPECT_EQ(events[1].session_status, 1u);
  EXPECT_EQ(events[2].step, 300u);
  EXPECT_THAT(events[2].values, ElementsAre(Pair("loss", 0.1f), Pair(std::string(200, 'x'), -1e30f)));
  EXPECT_EQ(events[3].step, 1'000'000'000'000u);
}

TEST_F(EventFiles, OfLaterStartsComeLaterByName) {
  std::filesystem::create_directories(at("events"));
  write_file(at("events/events.out.tfevents.4102444800.other.1"), "");  // of a host whose clock is wrong
  for (const core::Index first : {10, 20}) EventFile(at("events").string(), first);
  const auto files = files_in(at("events"));
  ASSERT_EQ(files.size(), 3u);
  EXPECT_EQ(events_of(files[1])[1].step, 10u);
  EXPECT_EQ(events_of(files[2])[1].step, 20u);
}

TEST_F(EventFiles, ThatCannotBeWrittenAreNamed) {
  write_file(at("events"), "");
  try {
    EventFile file(at("events").string(), 0);
    FAIL() << "nothing was thrown";
  } catch (const kernels::Error& error) {
    EXPECT_EQ(error.failure(), kernels::Failure::storage);
    EXPECT_THAT(error.what(), HasSubstr(at("events").string()));
  }
}

// What is left of all files when a start drops the steps from its own on: step by step, each tag once.
std::map<std::uint64_t, std::map<std::string, float>> as_shown(const std::filesystem::path& folder) {
  std::map<std::uint64_t, std::map<std::string, float>> steps;
  for (const auto& path : files_in(folder))
    for (const Event& event : events_of(path)) {
      if (event.session_status == 1) steps.erase(steps.lower_bound(event.step), steps.end());
      for (const auto& [tag, value] : event.values) EXPECT_TRUE(steps[event.step].emplace(tag, value).second) << tag;
    }
  return steps;
}

TEST_F(EventFiles, OfAResumedRunAreItsMetrics) {
  write_file(at("text.txt"), some_text(3000));
  write_file(at("job.ini"), kTinyJob);
  ASSERT_EQ(call("tokenize --from text.txt --to train.h5").code, 0) << content_of(at(".err"));
  const std::string train =
      "train --config job.ini --data.valid train.h5 --train.steps 4 --run.checkpoint_every 2 --run.tensorboard yes "
      "--run.norms_every 2 --mesh.pipeline 2";
  ASSERT_EQ(call(train, mpirun(2)).code, 0) << content_of(at(".err"));
  // As if it had been killed in its last step.
  std::filesystem::remove(at("run/checkpoints/step-00000004.h5"));
  ASSERT_EQ(call(train, mpirun(2)).code, 0) << content_of(at(".err"));
  EXPECT_EQ(files_in(at("run/events")).size(), 2u);

  const auto steps = as_shown(at("run/events"));
  EXPECT_EQ(steps.size(), 4u);
  std::ifstream metrics(at("run/metrics.jsonl"));
  std::string line;
  for (const auto& [step, tags] : steps) {
    SCOPED_TRACE(step);
    ASSERT_TRUE(std::getline(metrics, line));
    const boost::json::object object = boost::json::parse(line).as_object();
    EXPECT_EQ(object.at("step").to_number<std::uint64_t>(), step);
    std::map<std::string, float> expected;
    for (const char* key : {"loss", "grad_norm", "lr", "tokens_per_s"})
      expected[key] = object.at(key).to_number<float>();
    if (step == 3) expected["valid_loss"] = object.at("valid_loss").to_number<float>();
    EXPECT_EQ(object.contains("layers"), step % 2 == 1);
    for (int layer = 0; step % 2 == 1 && layer < 2; ++layer)
      for (const char* key : {"a_norm", "b_norm", "grad_norm"})
        expected["layer_0" + std::to_string(layer) + "/" + key] =
            object.at("layers").at(layer).at(key).to_number<float>();
    EXPECT_EQ(tags, expected);
  }
}

TEST_F(EventFiles, AreMadeWhenAskedFor) {
  write_file(at("text.txt"), some_text(3000));
  write_file(at("job.ini"), kTinyJob);
  ASSERT_EQ(call("tokenize --from text.txt --to train.h5").code, 0) << content_of(at(".err"));
  ASSERT_EQ(call("train --config job.ini").code, 0) << content_of(at(".err"));
  EXPECT_FALSE(std::filesystem::exists(at("run/events")));
}

}  // namespace
}  // namespace lorashard::launch
