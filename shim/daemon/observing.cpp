#include "daemon/observing.hpp"

#include "observe/ledger_reader.hpp"

#include <fmt/format.h>

namespace vfio_shim::daemon {

Result<std::unique_ptr<Observing>> Observing::start(const ObservingOptions &options,
                                                    const std::string &prefix,
                                                    std::string_view backend,
                                                    observe::SharedLedger &ledger, bool go_on) {
  std::unique_ptr<Observing> observing(new Observing);
  if (!options.record.empty()) {
    auto recorder = go_on ? observe::Recorder::go_on(options.record)
                          : observe::Recorder::create(options.record, prefix, backend);
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
      ledger.statistics(), observing->recorder_.get(), observing->usage_.get(), &ledger.sequence());
  return observing;
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
