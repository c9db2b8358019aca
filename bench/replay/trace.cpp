#include "replay/trace.hpp"

#include <algorithm>
#include <random>

#include "base/file.hpp"
#include "base/json.hpp"

namespace tidemill::replay {

namespace fs = std::filesystem;
using route::BlockHash;

namespace {

BlockHash mix(BlockHash value) {
  value = (value ^ (value >> 30U)) * 0xBF58476D1CE4E5B9U;
  value = (value ^ (value >> 27U)) * 0x94D049BB133111EBU;
  return value ^ (value >> 31U);
}

// Ids name blocks together with what is before them already; chaining makes sure of it.
std::vector<BlockHash> chained(const base::json::array& ids, BlockHash seed) {
  std::vector<BlockHash> blocks;
  blocks.reserve(ids.size());
  BlockHash last = mix(seed);
  for (const base::json::value& id : ids) {
    last = mix(last ^ (static_cast<BlockHash>(id.to_number<int64_t>()) * 0x9E3779B97F4A7C15U));
    blocks.push_back(last);
  }
  return blocks;
}

struct Recording {
  size_t common_blocks = 0;
  std::vector<Request> requests;
};

base::Result<Recording> read_recording(const fs::path& file, uint64_t seed, Trace& trace, double longest_pause) {
  TM_TRY(const std::string text, base::read_file(file));
  TM_TRY(const base::json::value parsed, base::parse_json(text));
  const base::json::object& root = parsed.as_object();
  Recording recording;
  trace.block_tokens = root.at("block_size").to_number<int64_t>();
  recording.common_blocks = static_cast<size_t>(
      (root.at("tool_tokens").to_number<int64_t>() + root.at("system_tokens").to_number<int64_t>()) /
      trace.block_tokens);
  double last = 0;
  double at = 0;
  for (const base::json::value& entry : root.at("requests").as_array()) {
    const base::json::object& request = entry.as_object();
    const auto t = request.at("t").to_number<double>();
    at += std::min(t - last, longest_pause);
    last = t;
    trace.blocks.push_back(chained(request.at("hash_ids").as_array(), seed));
    recording.requests.push_back({.at = at,
                                  .prompt_tokens = request.at("in").to_number<int64_t>(),
                                  .output_tokens = request.at("out").to_number<int64_t>(),
                                  .blocks = &trace.blocks.back()});
  }
  return recording;
}

}  // namespace

void Request::write_blocks(std::vector<BlockHash>& out) const {
  out = *blocks;
  if (salt == 0) return;
  for (size_t i = common_blocks; i < out.size(); ++i)
    out[i] = mix(out[i] ^ salt);
}

base::Result<Trace> load_mooncake(const fs::path& file, double seconds) {
  TM_TRY(const std::string text, base::read_file(file));
  Trace trace{.name = "mooncake/" + file.stem().string(), .block_tokens = 512, .requests = {}, .blocks = {}};
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    TM_TRY(const base::json::value parsed, base::parse_json(std::string_view(text).substr(begin, end - begin)));
    begin = end + 1;
    const base::json::object& line = parsed.as_object();
    const double at = line.at("timestamp").to_number<double>() / 1000;
    if (at >= seconds) break;
    trace.blocks.push_back(chained(line.at("hash_ids").as_array(), 1));
    trace.requests.push_back({.at = at,
                              .prompt_tokens = line.at("input_length").to_number<int64_t>(),
                              .output_tokens = line.at("output_length").to_number<int64_t>(),
                              .blocks = &trace.blocks.back()});
  }
  return trace;
}

base::Result<Trace> load_agentic(const fs::path& folder, const AgenticOptions& options) {
  std::vector<fs::path> files;
  std::error_code failed;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, failed)) {
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  }
  if (files.empty()) return base::Error(base::ErrorCode::not_found, "no traces in " + folder.string());
  std::ranges::sort(files);
  Trace trace{.name = "agentic", .block_tokens = 0, .requests = {}, .blocks = {}};
  std::vector<Recording> recordings;
  for (const fs::path& file : files) {
    TM_TRY(Recording recording, read_recording(file, recordings.size() + 1, trace, options.longest_pause));
    recordings.push_back(std::move(recording));
  }

  std::mt19937_64 random(1);
  uint64_t session = 0;
  for (int user = 0; user < options.users; ++user) {
    double begin = options.ramp * static_cast<double>(random() % 100'000) / 100'000;
    for (size_t play = static_cast<size_t>(user); begin < options.seconds; ++play) {
      const Recording& recording = recordings[play % recordings.size()];
      ++session;
      const uint64_t salt = mix(session);
      for (Request request : recording.requests) {
        request.at += begin;
        if (request.at >= options.seconds) break;
        request.session = session;
        request.common_blocks = recording.common_blocks;
        request.salt = salt;
        trace.requests.push_back(request);
      }
      begin += recording.requests.back().at + 30;
    }
  }
  std::ranges::stable_sort(trace.requests, {}, &Request::at);
  return trace;
}

}  // namespace tidemill::replay
