# SPDX-License-Identifier: MIT
# What a program needs that embeds libvfio_compat: headers, both libraries, files for pkg-config and for CMake.
include(CMakePackageConfigHelpers)

add_library(vfio_compat_shared SHARED $<TARGET_OBJECTS:vfio_compat>)
# Before 1.0, every minor version may change the interface.
set_target_properties(vfio_compat_shared PROPERTIES OUTPUT_NAME vfio_compat EXPORT_NAME vfio_compat LINKER_LANGUAGE CXX
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
target_include_directories(vfio_compat_shared INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(vfio_compat_shared PUBLIC fmt::fmt tl::expected)
set_target_properties(vfio_compat PROPERTIES EXPORT_NAME vfio_compat_static)
foreach(library IN ITEMS vfio_compat vfio_compat_shared)
  target_compile_features(${library} INTERFACE cxx_std_20)
endforeach()

set(cmake_files ${CMAKE_INSTALL_LIBDIR}/cmake/vfio_compat)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/vfio_shim DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS vfio_compat vfio_compat_shared EXPORT vfio_compat-targets)
install(EXPORT vfio_compat-targets NAMESPACE vfio_shim:: DESTINATION ${cmake_files})
configure_package_config_file(${PROJECT_SOURCE_DIR}/packaging/cmake/vfio_compat-config.cmake.in vfio_compat-config.cmake
  INSTALL_DESTINATION ${cmake_files})
write_basic_package_version_file(vfio_compat-config-version.cmake COMPATIBILITY SameMinorVersion)
configure_file(${PROJECT_SOURCE_DIR}/packaging/vfio_compat.pc.in vfio_compat.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/vfio_compat-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/vfio_compat-config-version.cmake
  DESTINATION ${cmake_files})
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/vfio_compat.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
