#include "chat/output_parser.hpp"

#include <utility>

#include "chat/machine.hpp"

namespace tidemill::chat {

void Delta::clear() {
  content.clear();
  reasoning.clear();
  calls.clear();
}

OutputParser::OutputParser(const Format& format, std::span<const Tool> tools, Start start,
                           std::function<uint64_t()> random)
    : machine_(format.tools == ToolFormat::harmony ? Machine::harmony(format, tools, start, std::move(random))
                                                   : Machine::text(format, tools, start, std::move(random))) {}

OutputParser::~OutputParser() = default;
OutputParser::OutputParser(OutputParser&&) noexcept = default;
OutputParser& OutputParser::operator=(OutputParser&&) noexcept = default;

void OutputParser::feed(std::string_view text, Delta& out) {
  machine_->writer().write_to(out);
  for (const char byte : text)
    machine_->take(byte);
}

void OutputParser::finish(Delta& out, bool cut) {
  machine_->writer().write_to(out);
  machine_->finish(cut);
}

bool OutputParser::in_reasoning() const {
  return machine_->in_reasoning();
}

size_t OutputParser::waiting_reasoning() const {
  return machine_->waiting_reasoning();
}

std::string_view OutputParser::waiting_content() const {
  return machine_->writer().waiting_content();
}

int OutputParser::calls() const {
  return machine_->writer().calls();
}

bool OutputParser::complete() const {
  return machine_->writer().complete();
}

}  // namespace tidemill::chat
