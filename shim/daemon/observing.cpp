#include "cli/observing.hpp"

#include "observe/ledger_reader.hpp"

#include <fmt/format.h>

namespace vfio_shim::cli {

void ObservingOptions::add_to(CLI::App &command, CLI::Option *unless) {
  const auto only_ours = [unless](CLI::Option *option) {
    if (unless != nullptr)
      option->excludes(unless);
    return option;
  };
  only_ours(command.add_option(
      "--record", record,
      "Write every call to this file, for `vfio-shim trace`; one that is there is replaced"));
  only_ours(command.add_option("--metrics", metrics,
                               "Serve metrics for Prometheus at [HOST]:PORT, or at a Unix socket's "
                               "path"));
  command
      .add_option("--state", state,
                  "Directory in which to note which program uses what, for `vfio-shim usage`; '' "
                  "for none")
      ->capture_default_str();
}

Result<std::unique_ptr<Observing>> Observing::start(const ObservingOptions &options,
                                                    const std::string &prefix,
                                                    std::string_view backend,
                                                    observe::SharedLedger &ledger) {
  std::unique_ptr<Observing> observing(new Observing);
  if (!options.record.empty()) {
    auto recorder = observe::Recorder::create(options.record, prefix, backend);
    if (!recorder)
      return fail(recorder.error().code, fmt::format("cannot record to {}: {}", options.record,
                                                     errno_name(recorder.error().code)));
    observing->recorder_ = std::move(*recorder);
  }
  if (!options.metrics.empty()) {
    auto reader = observe::LedgerReader::open(prefix);
    if (!reader)
      return pass_on(reader);
    auto server = MetricsServer::start(options.metrics, std::move(*reader));
    if (!server)
      return pass_on(server);
    observing->metrics_ = std::move(*server);
  }
  if (!options.state.empty())
    observing->usage_ = std::make_unique<observe::UsageKeeper>(options.state);
  observing->observer_ = std::make_unique<observe::Observer>(
      ledger.statistics(), observing->recorder_.get(), observing->usage_.get());
  return observing;
}

void Observing::finish() {
  metrics_.reset();
  if (recorder_)
    recorder_->finish();
  if (usage_)
    usage_->finish();
}

} // namespace vfio_shim::cli
