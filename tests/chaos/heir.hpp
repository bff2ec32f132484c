// SPDX-License-Identifier: MIT
/// @file
/// What a client becomes that execs.
#pragma once

namespace chaos {

/// Executes this program anew, which goes on with the container that it inherits. Throws if it
/// cannot.
[[noreturn]] void become_heir(int place, int container);

/// Whether the command line is become_heir()'s. If so, lives the heir's life and does not return.
void be_an_heir_if_told(int argc, char **argv);

} // namespace chaos
