// SPDX-License-Identifier: MIT
#include "supervise/agent.hpp"

#include "cli/command_line.hpp"
#include "cli/log_format.hpp"
#include "observe/warning_budget.hpp"

#include "vfio_shim/fd.hpp"

#include <csignal>
#include <memory>
#include <mutex>
#include <string>

#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>

#include "daemon/follow_parent.hpp"

namespace vfio_shim::cli {

namespace {

struct AgentOptions {
  int socket = -1;
  pid_t parent = 0;
  std::string node;
  std::string log_level;
};

/// Passes lines on, but not very many: strangers can have them written.
class BudgetedSink final : public spdlog::sinks::base_sink<std::mutex> {
public:
  explicit BudgetedSink(spdlog::sink_ptr sink) : sink_(std::move(sink)) {}

private:
  void sink_it_(const spdlog::details::log_msg &message) override {
    if (budget_.spend())
      sink_->log(message);
  }
  void flush_() override { sink_->flush(); }

  spdlog::sink_ptr sink_;
  observe::WarningBudget budget_;
};

int serve_others(const AgentOptions &options) {
  daemon::follow_parent(SIGKILL, options.parent);
  ::prctl(PR_SET_NAME, "vfio-shim-agent"); // It was started by another name: /proc/self/exe.
  const auto inner = spdlog::default_logger()->sinks().front();
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("vfio-shim", std::make_shared<BudgetedSink>(inner)));
  spdlog::set_level(spdlog::level::from_str(options.log_level));
  supervise::serve_as_agent(Fd{options.socket}, options.node);
}

} // namespace

/// What `serve` starts beside its worker. Not for people.
void add_agent(CommandLine &line) {
  auto options = std::make_shared<AgentOptions>();
  auto *command = line.app.add_subcommand("agent", "Supervise programs of others");
  command->group("");
  command->add_option("--socket", options->socket)->required();
  command->add_option("--parent", options->parent)->required();
  command->add_option("--node", options->node)->required();
  command->add_option("--log-level", options->log_level)->required();
  command->callback(
      [&line, options] { line.chosen = [options] { return serve_others(*options); }; });
}

} // namespace vfio_shim::cli
