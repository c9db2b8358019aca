// What OutputParser is made of: one machine for text with tags, one for harmony's channels.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "chat/call_reader.hpp"
#include "chat/output_parser.hpp"
#include "chat/output_writer.hpp"

namespace tidemill::chat {

class OutputParser::Machine {
 public:
  Machine(const Format& format, std::span<const Tool> tools, std::function<uint64_t()> random)
      : format_(format),
        writer_(format.syntax.short_ids, std::vector<Tool>(tools.begin(), tools.end()), std::move(random)) {}
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  virtual ~Machine() = default;

  virtual void take(char byte) = 0;
  // Lets go of what was held back; as OutputParser.
  virtual void finish(bool cut) = 0;
  virtual bool in_reasoning() const = 0;
  virtual size_t waiting_reasoning() const = 0;

  OutputWriter& writer() { return writer_; }

  static std::unique_ptr<Machine> text(const Format& format, std::span<const Tool> tools, Start start,
                                       std::function<uint64_t()> random);
  static bool harmony_reads_name(std::string_view name);
  static std::unique_ptr<Machine> harmony(const Format& format, std::span<const Tool> tools, Start start,
                                          std::function<uint64_t()> random);

 protected:
  const Format format_;
  OutputWriter writer_;
};

}  // namespace tidemill::chat
