#include "client/marked_page.hpp"

#include "client/borrowed_thread.hpp"

#include "vfio_shim/process_memory.hpp"

#include <sys/random.h>

namespace vfio_shim::client {

ClientAddr MarkedPage::place_of_mark(ClientAddr page) {
  return page + Bytes{BorrowedThread::scratch_size};
}

Result<MarkedPage> MarkedPage::mark(Tid thread, ClientAddr address) {
  Mark mark{};
  if (::getrandom(mark.data(), mark.size(), 0) != static_cast<ssize_t>(mark.size()))
    return fail_errno("getrandom");
  VFIO_SHIM_TRY(write_memory(thread, place_of_mark(address), mark));
  return MarkedPage(address, mark);
}

bool MarkedPage::is_in(Tid thread) const {
  Mark found{};
  return read_memory(thread, place_of_mark(address_), found) && found == mark_;
}

} // namespace vfio_shim::client
