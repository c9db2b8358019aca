// What this machine can do at most, on one core and on all that this process may use: the table to hold every other
// figure against.
//
//   bench_ceilings [--threads N] [--json]
//
// "a cycle" is what one core does in one of its clock cycles, from the clock measured beside it: there a ceiling shows
// whether it is believable, since it must be a small multiple of what one instruction does.
#include "tensor/ceilings.hpp"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/core.h>

#include "base/cpu_budget.hpp"
#include "base/json.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)
namespace json = base::json;

namespace {

struct Row {
  const tensor::PeakInfo* info;
  double one = 0;  // operations per second
  double all = 0;
  double hertz = 0;  // of the core, measured just before `one`
};

struct Table {
  int threads = 1;
  std::string threads_source;
  double read_one = 0;  // bytes per second
  double read_all = 0;
  double region = 0;  // seconds
  std::vector<Row> rows;
};

base::Result<Table> measure(int threads) {
  const base::CpuBudget budget = base::cpu_budget();
  Table table;
  table.threads = threads > 0 ? threads : budget.threads;
  table.threads_source = budget.source();
  TM_TRY(tensor::CeilingMeter one, tensor::CeilingMeter::create(1));
  TM_TRY(tensor::CeilingMeter all, tensor::CeilingMeter::create(table.threads));
  table.read_one = one.read();
  table.read_all = all.read();
  table.region = all.region();
  for (const tensor::PeakInfo& info : tensor::peaks()) {
    Row row{.info = &info};
    if (info.present) {
      row.hertz = one.clock_rate();
      row.one = one.operations(info.peak);
      row.all = all.operations(info.peak);
    }
    table.rows.push_back(row);
  }
  return table;
}

void print_text(const Table& table) {
  fmt::print("{} of {}\n\n", table.threads == 1 ? "1 thread" : fmt::format("{} threads", table.threads),
             table.threads_source);
  fmt::print("{:<12} {:<28} {:>12} {:>12} {:>16}\n", "ceiling", "instruction", "1 core",
             table.threads == 1 ? "1 core" : fmt::format("{} cores", table.threads), "a cycle");
  fmt::print("{:<12} {:<28} {:>7.1f} GB/s {:>7.1f} GB/s\n", "read", "sequential, 2 MiB pages", table.read_one / 1e9,
             table.read_all / 1e9);
  for (const Row& row : table.rows) {
    if (!row.info->present) {
      fmt::print("{:<12} {:<28} {:>12}\n", row.info->name, row.info->instruction, "absent");
      continue;
    }
    fmt::print("{:<12} {:<28} {:>6.1f} Gop/s {:>6.1f} Gop/s {:>7.1f} at {:.2f} GHz\n", row.info->name,
               row.info->instruction, row.one / 1e9, row.all / 1e9, row.one / row.hertz, row.hertz / 1e9);
  }
  if (table.threads > 1) fmt::print("\nan empty parallel region takes {:.2f} us\n", table.region * 1e6);
}

void print_json(const Table& table) {
  json::array rows;
  for (const Row& row : table.rows) {
    json::object object{{"name", row.info->name},
                        {"instruction", row.info->instruction},
                        {"inputs", row.info->inputs},
                        {"present", row.info->present}};
    if (row.info->present) {
      object["ops_per_s_one_core"] = row.one;
      object["ops_per_s"] = row.all;
      object["ops_per_cycle"] = row.one / row.hertz;
    }
    rows.push_back(std::move(object));
  }
  fmt::print("{}\n", base::pretty_json(json::object{{"threads", table.threads},
                                                    {"threads_from", table.threads_source},
                                                    {"read_bytes_per_s_one_core", table.read_one},
                                                    {"read_bytes_per_s", table.read_all},
                                                    {"region_s", table.region},
                                                    {"compute", std::move(rows)}}));
}

}  // namespace

int main(int argc, char** argv) {
  int threads = 0;
  bool as_json = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--json") {
      as_json = true;
    } else if (argument == "--threads" && i + 1 < argc && std::atoi(argv[i + 1]) >= 1) {
      threads = std::atoi(argv[++i]);
    } else {
      std::fprintf(stderr, "usage: bench_ceilings [--threads N] [--json]\n");
      return 2;
    }
  }
  const auto table = measure(threads);
  if (!table) {
    std::fprintf(stderr, "%s\n", table.error().to_string().c_str());
    return 1;
  }
  (as_json ? print_json : print_text)(*table);
  return 0;
}
