// SPDX-License-Identifier: MIT
#include "cli/doctor/checks.hpp"
#include "cli/doctor/report.hpp"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "support/fake_sysfs.hpp"

namespace vfio_shim::cli::doctor {

void PrintTo(const Finding &finding, std::ostream *out) {
  *out << fmt::format("{} {}: {} -> {}", outcome_name(finding.outcome), finding.subject,
                      finding.found, finding.remedy);
}

namespace {

namespace fs = std::filesystem;

/// A machine in order, to be spoilt by tests: Intel, one NVMe drive given to vfio-pci.
class DoctorTest : public testing::Test {
protected:
  static constexpr auto nvme = "0000:00:03.0";

  DoctorTest() {
    write("proc/sys/kernel/osrelease", "7.2.13-vfio-shim\n");
    write("proc/cmdline", "quiet intel_iommu=on,sm_on\n");
    write("proc/self/status",
          "Name:\tdoctor\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\nSeccomp:\t0\n");
    write("proc/self/mountinfo", "22 1 0:20 / / rw - ext4 /dev/vda rw\n"
                                 "23 22 0:6 / " +
                                     (root() / "dev").string() +
                                     " rw,nosuid shared:2 - devtmpfs dev rw\n"
                                     "24 23 0:22 / " +
                                     (root() / "dev/pts").string() + " rw - devpts devpts rw\n");
    set_pid_namespace("pid:[4026531836]");
    write("proc/self/uid_map", "         0          0 4294967295\n");
    write("proc/self/limits",
          "Limit                     Soft Limit           Hard Limit   Units\n"
          "Max open files            1024                 524288       files\n"
          "Max locked memory         unlimited            unlimited    bytes\n");
    write("proc/interrupts", "  27:  0  12  IR-PCI-MSIX-0000:00:03.0  0-edge  nvme0q0\n");
    write("proc/misc", "203 cuse\n257 iommu\n");
    write("proc/sys/kernel/ns_last_pid", "1\n");
    write("proc/sys/kernel/yama/ptrace_scope", "1\n");
    write("sys/firmware/acpi/tables/DMAR");
    write("sys/bus/pci/drivers/vfio-pci/bind");
    write("dev/cuse");
    write("dev/iommu");
    fs::create_directories(root() / "run");
    set_config({"CUSE=y", "IOMMUFD=m", "VFIO_PCI=m", "VFIO_DEVICE_CDEV=y", "VFIO_PCI_DMABUF=y",
                "INTEL_IOMMU=y", "CHECKPOINT_RESTORE=y"});
    add_device(nvme, GroupId{2}, "vfio-pci", "0x010802");
    add_cdev(nvme, 0);
  }

  const fs::path &root() const { return sysfs.root(); }

  /// Replaces the file of this name.
  void write(const fs::path &name, const std::string &text = "") {
    fs::create_directories((root() / name).parent_path());
    std::ofstream(root() / name) << text;
  }
  void remove(const fs::path &name) { fs::remove_all(root() / name); }

  void set_pid_namespace(const std::string &name) {
    fs::create_directories(root() / "proc/self/ns");
    remove("proc/self/ns/pid");
    fs::create_symlink(name, root() / "proc/self/ns/pid");
  }

  void set_config(const std::vector<std::string> &settings) {
    std::string text = "# Automatically generated file; DO NOT EDIT.\n# CONFIG_OTHER is not set\n";
    for (const std::string &setting : settings)
      text += "CONFIG_" + setting + "\n";
    write("boot/config-7.2.13-vfio-shim", text);
  }

  void add_device(const std::string &name, GroupId group, const std::string &driver,
                  const std::string &pci_class) {
    sysfs.add_device(name, group, driver);
    write(fs::path("sys/devices/pci0") / name / "class", pci_class + "\n");
    fs::create_directories(root() / "sys/bus/pci/devices");
    fs::create_directory_symlink(fs::path("../../../devices/pci0") / name,
                                 root() / "sys/bus/pci/devices" / name);
  }
  void add_cdev(const std::string &name, int number) {
    sysfs.add_cdev(name, number);
    write(fmt::format("sys/class/vfio-dev/vfio{}/dev", number), "251:0\n");
  }
  void take_devices_away() {
    sysfs.remove_cdev(nvme, 0);
    remove(fs::path("sys/devices/pci0") / nvme);
    remove(fs::path("sys/bus/pci/devices") / nvme);
  }

  Machine machine() const {
    return Machine::at({.kernel = sysfs.roots(),
                        .proc = root() / "proc",
                        .boot = root() / "boot",
                        .run = root() / "run",
                        .sbin = root() / "sbin",
                        .etc = root() / "etc",
                        .state = root() / "state",
                        .programs = {root() / "bin", root() / "sbin"}});
  }

  test::FakeSysfs sysfs;
};

void expect_ok(const Finding &finding) {
  EXPECT_EQ(finding.outcome, Outcome::ok) << testing::PrintToString(finding);
  EXPECT_EQ(finding.remedy, "");
}

/// That it is found with this outcome, and that both texts have these parts.
void expect_trouble(const Finding &finding, Outcome outcome, const std::string &found,
                    const std::string &remedy) {
  EXPECT_EQ(finding.outcome, outcome) << testing::PrintToString(finding);
  EXPECT_NE(finding.found.find(found), std::string::npos) << testing::PrintToString(finding);
  EXPECT_NE(finding.remedy.find(remedy), std::string::npos) << testing::PrintToString(finding);
}

void expect_missing(const Finding &finding, const std::string &found, const std::string &remedy) {
  expect_trouble(finding, Outcome::missing, found, remedy);
}

void expect_note(const Finding &finding, const std::string &found, const std::string &remedy) {
  expect_trouble(finding, Outcome::note, found, remedy);
}

TEST_F(DoctorTest, FindsNothingMissingOnAMachineInOrder) {
  auto in_order = machine();
  in_order.daemons = {{.pid = Pid{42}, .prefix = "vfio"}};
  for (const Finding &finding : examine(in_order, ""))
    expect_ok(finding);
}

TEST_F(DoctorTest, SaysSomethingOfEachThingOnAnEmptyMachine) {
  const auto findings =
      examine(Machine::at({.kernel = {.sys = "/nonexistent", .dev = "/nonexistent"},
                           .proc = "/nonexistent",
                           .boot = "/nonexistent",
                           .sbin = "/nonexistent",
                           .programs = {}}),
              "");
  EXPECT_FALSE(ready(findings));
  for (const Finding &finding : findings) {
    EXPECT_NE(finding.found, "") << finding.subject;
    EXPECT_TRUE(finding.outcome != Outcome::missing || !finding.remedy.empty()) << finding.subject;
  }
}

// --- privileges

TEST_F(DoctorTest, MissesRoot) {
  write("proc/self/status", "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n");
  expect_missing(check_privileges(machine()), "not root", "sudo");
}

TEST_F(DoctorTest, AContainersOwnPidNamespaceIsNotEnough) {
  set_pid_namespace("pid:[4026532201]");
  expect_missing(check_pid_namespace(machine()), "a container", "--pid=host");
}

TEST_F(DoctorTest, AContainersOwnDevIsNotEnough) {
  write("proc/self/mountinfo",
        "23 22 0:40 / " + (root() / "dev").string() + " rw - tmpfs tmpfs rw\n");
  expect_missing(check_dev(machine()), "tmpfs", "--volume /dev:/dev");
  write("proc/self/mountinfo", "22 1 0:20 / / rw - ext4 /dev/vda rw\n");
  expect_missing(check_dev(machine()), "no file system of its own", "mount -t devtmpfs");
}

TEST_F(DoctorTest, OfSeveralMountsOnDevTheLastCounts) {
  const std::string dev = (root() / "dev").string();
  write("proc/self/mountinfo", "23 22 0:40 / " + dev + " rw - tmpfs tmpfs rw\n24 23 0:6 / " + dev +
                                   " rw - devtmpfs dev rw\n");
  expect_ok(check_dev(machine()));
}

TEST_F(DoctorTest, AFilterOnTheShimItselfIsNoted) {
  write("proc/self/status", "Seccomp:\t2\n");
  expect_note(check_own_filter(machine()), "EBUSY", "seccomp=unconfined");
}

TEST_F(DoctorTest, MissesCapabilities) {
  write("proc/self/status", "Uid:\t0\t0\t0\t0\nCapEff:\t00000000a80425fb\n"); // Docker's default.
  expect_missing(check_privileges(machine()), "CAP_SYS_ADMIN, CAP_SYS_PTRACE",
                 "--cap-add SYS_ADMIN --cap-add SYS_PTRACE");
  write("proc/self/status", "Uid:\t0\t0\t0\t0\nCapEff:\t0000000000200000\n");
  expect_missing(check_privileges(machine()), "root without CAP_SYS_PTRACE", "SYS_PTRACE");
}

TEST_F(DoctorTest, IsNotTakenInByAUserNamespace) {
  write("proc/self/uid_map", "         0       1000          1\n");
  expect_missing(check_privileges(machine()), "user namespace", "outside");
}

// --- the kernel

TEST_F(DoctorTest, MissesANewerKernel) {
  write("proc/sys/kernel/osrelease", "6.1.0-30-amd64\n");
  expect_missing(check_kernel(machine()), "6.1.0-30-amd64", "6.6");
  write("proc/sys/kernel/osrelease", "6.6.1\n");
  EXPECT_NE(check_kernel(machine()).outcome, Outcome::missing);
}

TEST_F(DoctorTest, AdmitsNotToKnowTheConfiguration) {
  remove("boot");
  expect_note(check_kernel(machine()), "unknown", "");
}

TEST_F(DoctorTest, ReadsACompressedConfiguration) {
  const gzFile file = ::gzopen((root() / "proc/config.gz").c_str(), "wb");
  ASSERT_NE(file, nullptr);
  ::gzputs(
      file,
      "CONFIG_CUSE=m\nCONFIG_FUSE_FS=y\nCONFIG_LOCALVERSION=\"-m\"\n# CONFIG_VFIO is not set\n");
  ::gzclose(file);
  const auto config = machine().config;
  EXPECT_EQ(config.source(), root() / "proc/config.gz");
  EXPECT_EQ(config.of("CUSE"), KernelConfig::Setting::module);
  EXPECT_EQ(config.of("FUSE_FS"), KernelConfig::Setting::built_in);
  EXPECT_EQ(config.of("VFIO"), KernelConfig::Setting::off);
  EXPECT_EQ(config.of("FUSE"), KernelConfig::Setting::off);
  EXPECT_EQ(KernelConfig{}.of("CUSE"), KernelConfig::Setting::unknown);
}

TEST(KernelVersionTest, IsReadFromARelease) {
  EXPECT_EQ(KernelVersion::parse("7.2.13-vfio-shim"), (KernelVersion{.major = 7, .minor = 2}));
  EXPECT_EQ(KernelVersion::parse("6.19-rc1"), (KernelVersion{.major = 6, .minor = 19}));
  EXPECT_EQ(KernelVersion::parse(""), KernelVersion{});
  EXPECT_LT(KernelVersion::parse("6.9.0"), KernelVersion::parse("6.13.0"));
}

TEST_F(DoctorTest, MissesCuse) {
  remove("dev/cuse");
  expect_missing(check_cuse(machine()), "is not there", "mknod -m 600 /dev/cuse c 10 203");
  remove("proc/misc");
  expect_missing(check_cuse(machine()), "is not there", "modprobe cuse");
  set_config({"FUSE_FS=y"});
  expect_missing(check_cuse(machine()), "built without it", "CONFIG_CUSE=y");
  remove("boot");
  expect_missing(check_cuse(machine()), "CONFIG_CUSE", "modprobe cuse");
}

TEST_F(DoctorTest, MissesIommufd) {
  remove("dev/iommu");
  remove("proc/misc");
  expect_missing(check_iommufd(machine()), "is not there", "modprobe iommufd");
  set_config({});
  expect_missing(check_iommufd(machine()), "built without it", "CONFIG_IOMMUFD=y");
}

TEST_F(DoctorTest, NotesFeaturesOfLaterKernels) {
  write("proc/sys/kernel/osrelease", "6.12.9\n");
  expect_note(check_map_file(machine()), "slower", "6.13");
  expect_note(check_bar_mapping(machine()), "cannot", "6.19");
}

TEST_F(DoctorTest, NotesFeaturesThatAreNotBuiltIn) {
  set_config({"CUSE=y"});
  remove("proc/sys/kernel/ns_last_pid");
  expect_note(check_bar_mapping(machine()), "cannot", "CONFIG_VFIO_PCI_DMABUF=y");
  expect_note(check_filtered_clients(machine()), "filters", "CONFIG_CHECKPOINT_RESTORE=y");
  remove("boot");
  expect_note(check_bar_mapping(machine()), "CONFIG_VFIO_PCI_DMABUF", "");
}

// --- the IOMMU

TEST_F(DoctorTest, MissesTheKernelArgumentThatTurnsVtdOn) {
  remove("sys/kernel/iommu_groups");
  write("proc/cmdline", "quiet\n");
  expect_missing(check_iommu(machine()), "Intel VT-d", "add intel_iommu=on to");
  write("proc/cmdline", "intel_iommu=sm_on\n");
  expect_missing(check_iommu(machine()), "Intel VT-d", "add intel_iommu=on to");
}

TEST_F(DoctorTest, FindsTheKernelArgumentThatTurnsTheIommuOff) {
  remove("sys/kernel/iommu_groups");
  write("proc/cmdline", "intel_iommu=off\n");
  expect_missing(check_iommu(machine()), "off", "take intel_iommu=off off");
  write("proc/cmdline", "iommu=off\n");
  expect_missing(check_iommu(machine()), "off", "take iommu=off off");
}

TEST_F(DoctorTest, FindsAnIommuThatIsOnAndYetUnused) {
  remove("sys/kernel/iommu_groups");
  expect_missing(check_iommu(machine()), "off", "dmesg");
}

TEST_F(DoctorTest, KnowsThatAmdsIommuIsOnByDefault) {
  remove("sys/kernel/iommu_groups");
  remove("sys/firmware/acpi/tables/DMAR");
  write("sys/firmware/acpi/tables/IVRS");
  write("proc/cmdline", "quiet\n");
  set_config({"AMD_IOMMU=y"});
  expect_missing(check_iommu(machine()), "AMD-Vi", "dmesg");
  write("proc/cmdline", "amd_iommu=off\n");
  expect_missing(check_iommu(machine()), "AMD-Vi", "take amd_iommu=off off");
  set_config({});
  expect_missing(check_iommu(machine()), "AMD-Vi", "CONFIG_AMD_IOMMU=y");
}

TEST_F(DoctorTest, SendsToTheFirmwareWhereItTellsOfNoIommu) {
  remove("sys/kernel/iommu_groups");
  remove("sys/firmware");
  expect_missing(check_iommu(machine()), "none", "firmware");
}

TEST_F(DoctorTest, NotesInterruptsThatAreNotRemapped) {
  write("proc/interrupts", "   0:  548  IO-APIC  2-edge  timer\n");
  expect_note(check_interrupt_remapping(machine()), "may refuse", "allow_unsafe_interrupts");
  write("proc/cmdline", "intremap=off\n");
  expect_note(check_interrupt_remapping(machine()), "will refuse", "take intremap=off off");
  write("sys/module/iommufd/parameters/allow_unsafe_interrupts", "Y\n");
  expect_note(check_interrupt_remapping(machine()), "allow_unsafe_interrupts", "");
  remove("sys/kernel/iommu_groups");
  expect_note(check_interrupt_remapping(machine()), "without an IOMMU", "");
}

TEST_F(DoctorTest, DoesNotJudgeOtherArchitecturesInterrupts) {
  write("proc/interrupts", " 10:  5  GICv3  27 Level  arch_timer\n");
  expect_note(check_interrupt_remapping(machine()), "cannot tell", "");
}

// --- devices and nodes

TEST_F(DoctorTest, MissesCdevs) {
  remove("sys/class/vfio-dev/vfio0/dev");
  expect_missing(check_cdev(machine()), "makes none", "CONFIG_VFIO_DEVICE_CDEV=y");
  take_devices_away();
  expect_ok(check_cdev(machine()));
  remove("sys/class/vfio-dev");
  expect_missing(check_cdev(machine()), "not loaded", "modprobe vfio-pci");
  set_config({"VFIO_PCI=m"});
  expect_missing(check_cdev(machine()), "makes none", "CONFIG_VFIO_DEVICE_CDEV=y");
}

TEST_F(DoctorTest, CannotTellOfCdevsBeforeADeviceIsBound) {
  take_devices_away();
  remove("boot");
  expect_note(check_cdev(machine()), "cannot tell", "");
}

TEST_F(DoctorTest, ListsDevicesWithTheirGroups) {
  EXPECT_NE(check_devices(machine()).found.find("0000:00:03.0 (group 2)"), std::string::npos);
}

TEST_F(DoctorTest, SuggestsADeviceThatNothingUses) {
  take_devices_away();
  add_device("0000:00:01.0", GroupId{1}, "", "0x060400");       // A bridge
  add_device("0000:00:04.0", GroupId{4}, "e1000e", "0x020000"); // is used
  add_device("0000:00:05.0", GroupId{5}, "", "0x00ff00");       // idle
  expect_missing(check_devices(machine()), "0000:00:05.0",
                 "echo vfio-pci > /sys/bus/pci/devices/0000:00:05.0/driver_override && "
                 "echo 0000:00:05.0 > /sys/bus/pci/drivers_probe");
}

TEST_F(DoctorTest, SuggestsADeviceThatCanBeSpared) {
  take_devices_away();
  remove("sys/bus/pci/drivers/vfio-pci");
  add_device("0000:00:02.0", GroupId{1}, "i915", "0x030000");
  add_device("0000:00:03.5", GroupId{3}, "nvme", "0x010802");
  add_device("0000:00:04.0", GroupId{4}, "e1000e", "0x020000");
  expect_missing(check_devices(machine()), "e1000e",
                 "modprobe vfio-pci && echo vfio-pci > "
                 "/sys/bus/pci/devices/0000:00:04.0/driver_override && echo 0000:00:04.0 > "
                 "/sys/bus/pci/devices/0000:00:04.0/driver/unbind && echo 0000:00:04.0 > "
                 "/sys/bus/pci/drivers_probe");
}

TEST_F(DoctorTest, UsesDriverctlWhereItIsInstalled) {
  take_devices_away();
  add_device("0000:00:05.0", GroupId{5}, "", "0x00ff00");
  write("sbin/driverctl");
  EXPECT_EQ(check_devices(machine()).remedy, "driverctl set-override 0000:00:05.0 vfio-pci");
}

TEST_F(DoctorTest, SuggestsNoDeviceWhereThereIsNone) {
  take_devices_away();
  expect_missing(check_devices(machine()), "none", "add a PCI device");
  set_config({});
  expect_missing(check_devices(machine()), "built without it", "CONFIG_VFIO_PCI=y");
}

TEST_F(DoctorTest, NotesGroupsThatCannotBeUsed) {
  add_device("0000:00:01.0", GroupId{2}, "pcieport", "0x060400");
  expect_ok(check_viability(machine()));
  add_device("0000:00:03.1", GroupId{2}, "e1000e", "0x020000");
  expect_note(check_viability(machine()), "group 2", "0000:00:03.1/driver/unbind");
  EXPECT_EQ(check_viability(machine()).found.find("pcieport"), std::string::npos);
}

TEST_F(DoctorTest, TellsWhereNodesWillBe) {
  EXPECT_NE(check_nodes(machine(), "").found.find("/dev/vfio"), std::string::npos);
  EXPECT_NE(check_nodes(machine(), "old").found.find("/dev/old"), std::string::npos);
}

TEST_F(DoctorTest, NotesTheKernelsOwnNodes) {
  write("sys/class/misc/vfio/dev", "10:196\n");
  expect_note(check_nodes(machine(), ""), "/dev/vfio-shim", "");
  expect_missing(check_nodes(machine(), "vfio"), "its own", "--prefix vfio-shim");
}

// --- processes

TEST_F(DoctorTest, MissesAWayToClientMemory) {
  auto spoilt = machine();
  spoilt.cross_memory_error = ENOSYS;
  expect_missing(check_client_memory(spoilt), "process_vm_readv", "CONFIG_CROSS_MEMORY_ATTACH=y");
  spoilt.cross_memory_error = EPERM;
  expect_missing(check_client_memory(spoilt), "EPERM", "container");
}

TEST_F(DoctorTest, MissesAWayToCompareFiles) {
  auto spoilt = machine();
  spoilt.file_comparison_error = ENOSYS;
  expect_missing(check_client_descriptors(spoilt), "kcmp", "CONFIG_KCMP=y");
  spoilt.file_comparison_error = EPERM;
  expect_missing(check_client_descriptors(spoilt), "EPERM", "container");
}

TEST_F(DoctorTest, MissesPtraceWhereEvenRootMayNot) {
  write("proc/sys/kernel/yama/ptrace_scope", "3\n");
  expect_missing(check_borrowing(machine()), "kernel.yama.ptrace_scope", "reboot");
  remove("proc/sys/kernel/yama");
  expect_ok(check_borrowing(machine()));
}

TEST_F(DoctorTest, NotesWhatCannotBeServedYet) {
  expect_ok(check_kinds(machine()));
  add_device("0000:00:03.1", GroupId{3}, "vfio-pci", "0x010802");
  add_cdev("0000:00:03.1", 1);
  expect_ok(check_kinds(machine()));
  const fs::path devices = root() / "sys/devices/pci0";
  fs::create_directory_symlink(fs::path("..") / nvme, devices / "0000:00:03.1/physfn");
  expect_note(check_kinds(machine()), "0000:00:03.1 is a virtual function", "host driver");
  remove("sys/devices/pci0/0000:00:03.1/physfn");

  constexpr auto mediated = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
  add_device(mediated, GroupId{4}, "vfio_mdev", "");
  add_cdev(mediated, 2);
  fs::create_directory_symlink("../../../bus/mdev", devices / mediated / "subsystem");
  expect_note(check_kinds(machine()), "is a mediated device", "");
}

TEST_F(DoctorTest, MissesAPlaceForTheLedger) {
  remove("run");
  expect_missing(check_ledger(machine()), "not there", "mount -t tmpfs");
}

TEST_F(DoctorTest, NotesLimits) {
  write("proc/self/limits", "Max open files            1024                 4096         files\n"
                            "Max locked memory         8388608              8388608      bytes\n");
  expect_note(check_limits(machine()), "8 MiB", "ulimit -l unlimited");
  write("proc/self/limits", "Max open files            256                  256          files\n"
                            "Max locked memory         8388608              8388608      bytes\n");
  expect_note(check_limits(machine()), "256 open files", "ulimit -n");
}

TEST_F(DoctorTest, TellsOfDaemons) {
  auto served = machine();
  expect_note(check_daemon(served, ""), "none", "vfio-shim serve");
  served.daemons = {{.pid = Pid{42}, .prefix = "vfio"}};
  expect_ok(check_daemon(served, ""));
  expect_ok(check_daemon(served, "vfio"));
  expect_note(check_daemon(served, "other"), "/dev/other", "vfio-shim serve --prefix other");
}

// --- distributions

class DistributionTest : public DoctorTest {
protected:
  void set_distribution(const std::string &id, const std::string &like, const std::string &name) {
    write("etc/os-release", "PRETTY_NAME=\"" + name + "\"\nID=" + id + "\n" +
                                (like.empty() ? "" : "ID_LIKE=\"" + like + "\"\n"));
  }
  /// What mends it that this kernel has no iommufd.
  std::string remedy() {
    remove("dev/iommu");
    remove("proc/misc");
    set_config({"CUSE=m", "VFIO_PCI=m"});
    return check_iommufd(machine()).remedy;
  }
};

TEST_F(DistributionTest, IsNamedWithItsKernel) {
  set_distribution("debian", "", "Debian GNU/Linux 13 (trixie)");
  EXPECT_NE(check_kernel(machine()).found.find("on Debian GNU/Linux 13 (trixie)"),
            std::string::npos);
  write("proc/sys/kernel/osrelease", "6.1.0-30-amd64\n");
  expect_missing(check_kernel(machine()), "Linux 6.1.0-30-amd64 on Debian", "linux-source");
}

TEST_F(DistributionTest, HasItsOwnWayToAKernel) {
  set_distribution("debian", "", "Debian GNU/Linux 13 (trixie)");
  EXPECT_NE(remedy().find("apt install linux-source"), std::string::npos) << remedy();
  expect_missing(check_cdev((remove("sys/class/vfio-dev/vfio0/dev"), machine())), "makes none",
                 "apt install linux-source");
  set_distribution("ubuntu", "debian", "Ubuntu 22.04.5 LTS");
  EXPECT_NE(remedy().find("linux-generic-hwe-22.04"), std::string::npos) << remedy();
  set_distribution("rocky", "rhel centos fedora", "Rocky Linux 9.2");
  EXPECT_NE(remedy().find("Enterprise Linux"), std::string::npos) << remedy();
  set_distribution("opensuse-tumbleweed", "opensuse suse", "openSUSE Tumbleweed");
  EXPECT_NE(remedy().find("zypper install kernel-source"), std::string::npos) << remedy();
  set_distribution("exotic", "", "Exotic Linux");
  EXPECT_NE(remedy().find("CONFIG_IOMMUFD=y"), std::string::npos) << remedy();
}

TEST_F(DistributionTest, MayHaveBroughtCdevsToAnOlderKernel) {
  write("proc/sys/kernel/osrelease", "5.14.0-427.el9.x86_64\n");
  write("boot/config-5.14.0-427.el9.x86_64", "CONFIG_VFIO_DEVICE_CDEV=y\n");
  expect_ok(check_kernel(machine()));
  write("boot/config-5.14.0-427.el9.x86_64", "CONFIG_VFIO=m\n");
  expect_missing(check_kernel(machine()), "too old", "6.6");
}

// --- the shim's own label

TEST_F(DoctorTest, NotesASecurityModulesLabelThatConfines) {
  const auto label = [this](const std::string &text) {
    write("proc/self/attr/current", text);
    return check_own_label(machine());
  };
  expect_ok(label("unconfined\n"));
  expect_ok(label(std::string("unconfined\0", 11)));
  expect_ok(label("system_u:system_r:unconfined_service_t:s0\n"));
  expect_ok(label("system_u:system_r:spc_t:s0\n"));
  expect_ok(label("vfio-shim (complain)\n"));
  expect_note(label("containers-default-0.57.4 (enforce)\n"), "containers-default",
              "apparmor=unconfined");
  expect_note(label("system_u:system_r:container_t:s0:c34,c579\n"), "container_t", "label=disable");
  write("sys/fs/selinux/enforce", "0");
  expect_ok(label("system_u:system_r:container_t:s0:c34,c579\n"));
}

// --- who starts virtual machines

TEST_F(DoctorTest, TellsWhoseNodesVirtualMachinesWillFind) {
  expect_ok(check_starters(machine()));
  write("sbin/libvirtd");
  write("proc/77/comm", "qemu-system-x86\n");
  expect_note(check_starters(machine()), "libvirtd, qemu-system-x86_64 (runs): find no nodes",
              "vfio-shim serve");
  write("sys/class/misc/vfio/dev", "10:196\n");
  expect_note(check_starters(machine()), "find the kernel's own nodes", "--take-over");
  auto served = machine();
  served.daemons = {{.pid = Pid{42}, .prefix = "vfio-shim"}};
  expect_note(check_starters(served), "find the kernel's own nodes", "--take-over");
  served.daemons = {{.pid = Pid{42}, .prefix = "vfio"}};
  expect_ok(check_starters(served));
  write("dev/vfio/vfio-shim");
  expect_ok(check_starters(served));
  EXPECT_NE(check_starters(served).found.find("left to it"), std::string::npos);
}

TEST_F(DoctorTest, NotesWhoHasAGroupOfTheKernelsOpen) {
  write("proc/77/comm", "qemu-system-x86\n");
  fs::create_directories(root() / "proc/77/fd");
  fs::create_symlink(root() / "dev/vfio/vfio", root() / "proc/77/fd/3");
  write("sys/class/misc/vfio/dev", "10:196\n");
  expect_ok(check_open_nodes(machine()));
  fs::create_symlink(root() / "dev/vfio/5", root() / "proc/77/fd/4");
  expect_note(check_open_nodes(machine()), "qemu-system-x86[77] has", "--except");
  remove("sys/class/misc/vfio");
  expect_ok(check_open_nodes(machine()));
}

// --- the report

const std::vector<Finding> some_findings = {ok("/dev/cuse", "can be opened"),
                                            note("a long subject", "found", "do this"),
                                            missing("IOMMU", "off", "turn it on")};

TEST(DoctorReportTest, HasALinePerCheckAndOnePerRemedy) {
  const auto text = report_text(some_findings, false);
  EXPECT_EQ(text, "ok       /dev/cuse       can be opened\n"
                  "note     a long subject  found\n"
                  "                         -> do this\n"
                  "missing  IOMMU           off\n"
                  "                         -> turn it on\n"
                  "\n"
                  "1 thing is missing: vfio-shim cannot serve before it is mended.\n");
}

TEST(DoctorReportTest, IsColouredOnlyWhenAsked) {
  EXPECT_EQ(report_text(some_findings, false).find('\x1b'), std::string::npos);
  EXPECT_NE(report_text(some_findings, true).find('\x1b'), std::string::npos);
}

TEST(DoctorReportTest, IsReadyUnlessSomethingIsMissing) {
  EXPECT_FALSE(ready(some_findings));
  EXPECT_TRUE(ready({some_findings[0], some_findings[1]}));
  EXPECT_NE(report_text({some_findings[0]}, false).find("can serve"), std::string::npos);
}

TEST(DoctorReportTest, HasTheKeysThatAreDocumented) {
  EXPECT_EQ(nlohmann::json::parse(report_json(some_findings).dump()), nlohmann::json::parse(R"({
    "ready": false,
    "checks": [
      {"check": "/dev/cuse", "outcome": "ok", "found": "can be opened", "remedy": null},
      {"check": "a long subject", "outcome": "note", "found": "found", "remedy": "do this"},
      {"check": "IOMMU", "outcome": "missing", "found": "off", "remedy": "turn it on"}
    ]
  })"));
}

// --- this very machine

TEST(DoctorHereTest, GetsThroughAllChecks) {
  const auto findings = examine(Machine::here(), "");
  EXPECT_GT(findings.size(), 10U);
  for (const Finding &finding : findings)
    EXPECT_NE(finding.found, "") << finding.subject;
}

TEST_F(DoctorTest, TellsWhichNumbersTheNodesHave) {
  write("proc/devices", "Character devices:\n 10 misc\n120 vfio/vfio\n");
  fs::create_directories(root() / "sys/class/cuse/vfio!vfio");
  write("state/device-numbers", "major 120\nblock 1 vfio\nblock 2 other\n");
  const auto finding = check_numbers(machine());
  expect_ok(finding);
  EXPECT_NE(finding.found.find("major 120; blocks of minors: 2 remembered, 61 left"),
            std::string::npos)
      << finding.found;
}

TEST_F(DoctorTest, TellsThatADriverHasTheNodesMajor) {
  write("proc/devices", "Character devices:\n 10 misc\n120 own\n");
  write("state/device-numbers", "major 120\nblock 1 vfio\n");
  expect_trouble(check_numbers(machine()), Outcome::note, "major 120 is a driver's now",
                 "rules name 121");
}

TEST_F(DoctorTest, TellsThatNoMajorIsLeft) {
  std::string all = "Character devices:\n";
  for (int major = 1; major < 512; ++major)
    all += fmt::format("{} own\n", major);
  write("proc/devices", all);
  expect_trouble(check_numbers(machine()), Outcome::note, "no major is left", "");
}

TEST_F(DoctorTest, FindsRulesThatMeanTheKernelsNodes) {
  write("etc/udev/rules.d/10-kvm.rules", "# SUBSYSTEM==\"vfio\"\nKERNEL==\"kvm\"\n");
  expect_ok(check_rules(machine()));
  write("etc/systemd/system/vm.service.d/devices.conf", "[Service]\nDeviceAllow=char-vfio rw\n");
  expect_note(check_rules(machine()), "devices.conf (char-vfio)", "device-numbers");
  write("etc/udev/rules.d/20-vfio.rules", "SUBSYSTEM == \"vfio\", GROUP=\"kvm\"\n");
  expect_note(check_rules(machine()), "20-vfio.rules (SUBSYSTEM==\"vfio\"), ", "device-numbers");
  remove("etc/systemd/system/vm.service.d");
  write("etc/udev/rules.d/20-vfio.rules", "KERNEL==\"vfio\", MODE=\"0666\"\n");
  expect_note(check_rules(machine()), "20-vfio.rules (KERNEL==\"vfio\")", "device-numbers");
  remove("etc/udev");
  write("etc/containers/systemd/vm.container", "PodmanArgs=--device-cgroup-rule 'c 10:196 rw'\n");
  expect_note(check_rules(machine()), "vm.container (10:196)", "device-numbers");
}

TEST_F(DoctorTest, FindsUnitsThatLookForNodesTooEarly) {
  write("etc/systemd/system/vm.service", "[Service]\nDeviceAllow=/dev/vfio/vfio rw\n");
  expect_note(check_rules(machine()), "vm.service allows /dev/vfio by path",
              "After=vfio-shim.service");
  write("etc/systemd/system/other.service", "[Unit]\nAfter=vfio-shim.service\n");
  EXPECT_EQ(check_rules(machine()).outcome, Outcome::note) << "that is another unit";
  write("etc/systemd/system/vm.service.d/order.conf", "[Unit]\nAfter=vfio-shim.service\n");
  expect_ok(check_rules(machine()));
}

} // namespace
} // namespace vfio_shim::cli::doctor
