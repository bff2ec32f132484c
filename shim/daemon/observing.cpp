// SPDX-License-Identifier: MIT
#include "daemon/observing.hpp"

#include "observe/ledger_reader.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace vfio_shim::daemon {

Result<std::unique_ptr<Observing>> Observing::start(const ObservingOptions &options,
                                                    const std::string &prefix,
                                                    std::string_view backend,
                                                    observe::SharedLedger &ledger, bool go_on) {
  std::unique_ptr<Observing> observing(new Observing);
  if (!options.record.empty()) {
    auto recorder = go_on ? observe::Recorder::go_on(options.record)
                          : observe::Recorder::create(options.record, prefix, backend);
    if (!recorder && go_on)
      spdlog::error("the recording {} does not go on: {}", options.record,
                    recorder.error().describe());
    else if (!recorder)
      return fail(recorder.error().code, fmt::format("cannot record to {}: {}", options.record,
                                                     errno_name(recorder.error().code)));
    if (recorder)
      observing->recorder_ = std::move(*recorder);
  }
  if (!options.metrics.empty() && !go_on) {
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
      ledger.statistics(), observing->recorder_.get(), observing->usage_.get(), &ledger.sequence());
  return observing;
}

void Observing::serve_metrics(const ObservingOptions &options, const std::string &prefix) {
  if (options.metrics.empty())
    return;
  auto reader = observe::LedgerReader::open(prefix);
  auto server = reader ? MetricsServer::start(options.metrics, std::move(*reader))
                       : Result<std::unique_ptr<MetricsServer>>(pass_on(reader));
  if (server)
    metrics_ = std::move(*server);
  else
    spdlog::error("the metrics are served no more: {}", server.error().describe());
}

void Observing::pause() {
  metrics_.reset();
  if (recorder_)
    recorder_->pause();
  if (usage_)
    usage_->finish();
}

void Observing::finish() {
  metrics_.reset();
  if (recorder_)
    recorder_->finish();
  if (usage_)
    usage_->finish();
}

} // namespace vfio_shim::daemon
