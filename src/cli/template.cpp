#include <cstdio>
#include <string>

#include <fmt/core.h>

#include "base/clock.hpp"
#include "base/file.hpp"
#include "base/json.hpp"
#include "cli/command.hpp"
#include "cli/when.hpp"
#include "text/chat_template.hpp"

namespace tidemill::cli {

namespace {

struct TemplateFlags {
  std::string file;
  std::string input = "-";
  std::string now;
  bool as_served = false;
  bool as_json = false;
};

base::Result<int> render_template(const TemplateFlags& flags) {
  TM_TRY(const std::string source, base::read_file(flags.file));
  TM_TRY(const text::ChatTemplate chat_template,
         flags.as_served ? text::ChatTemplate::compile_as_meant(source) : text::ChatTemplate::compile(source));
  TM_TRY(const std::string input, base::read_file(flags.input));
  auto request = base::parse_json(input);
  if (!request) {
    return base::Error(base::ErrorCode::invalid_argument, fmt::format("cannot read '{}'", flags.input))
        .caused_by(std::move(request).error());
  }
  if (!request->is_object()) {
    return base::Error(base::ErrorCode::invalid_argument,
                       fmt::format("'{}' must hold a JSON object with messages, tools, bos_token, eos_token, "
                                   "add_generation_prompt and whatever else the template reads",
                                   flags.input));
  }
  TM_TRY(const base::WallTime now, parse_when(flags.now));
  TM_TRY(const std::string text, chat_template.render(request->get_object(), now));
  if (flags.as_json) {
    fmt::print("{}\n", base::json::serialize(base::json::object{{"text", text}}));
  } else {
    std::fwrite(text.data(), 1, text.size(), stdout);
  }
  return exit_success;
}

}  // namespace

void add_template(CLI::App& app, Invocation& chosen) {
  auto* command =
      app.add_subcommand("template", "Render a chat template (Jinja) with a request, for debugging prompts");
  auto flags = std::make_shared<TemplateFlags>();
  command->add_option("--file,file", flags->file, "The template")->required()->type_name("FILE.jinja");
  command
      ->add_option(
          "--input", flags->input,
          "JSON object with messages, tools, bos_token, eos_token, add_generation_prompt and any other variable; "
          "- reads standard input")
      ->type_name("REQUEST.json")
      ->capture_default_str();
  command->add_option("--now", flags->now, "The time that strftime_now sees, such as 2026-01-15T12:30:00 (UTC)")
      ->type_name("TIME");
  command->add_flag("--as-served", flags->as_served,
                    "By the rules that serve takes: where those of the reference refuse a round of tools, a template "
                    "may change its values");
  command->add_flag("--json", flags->as_json, "Print {\"text\": ...} instead of the bare text");
  command->callback([=, &chosen] { chosen.body = [flags] { return render_template(*flags); }; });
}

}  // namespace tidemill::cli
