# Tests of the cuda device, tests/gpu/test_*.cpp and ranks_*.cpp, labelled cuda. Each is built twice: for tests/emulator,
# where it always runs (gpu.NAME.emulated), and for a GPU (gpu.NAME), where it skips with a line if there is none.
# The emulator needs NVIDIA's headers, so without the CUDA Toolkit there is neither.
if(NOT found_cuda)
  message(STATUS "tests labelled cuda: not built (no CUDA Toolkit)")
  return()
endif()
if(LORASHARD_SANITIZE MATCHES "thread")
  message(STATUS "tests labelled cuda: not built with the thread sanitizer, whose calls the emulator answers itself")
  return()
endif()
find_package(Boost 1.81 REQUIRED COMPONENTS context)

# The device's own files as plain C++, every access of a kernel to memory reported to the emulator: -fsanitize=thread puts
# a call before each, and tests/emulator answers those calls instead of the sanitizer's library.
file(GLOB cuda_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/*.cu)
set_source_files_properties(${cuda_sources} PROPERTIES LANGUAGE CXX)
file(GLOB emulator_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/emulator/*.cpp)
list(FILTER emulator_sources EXCLUDE REGEX "/(test|ranks)_[^/]*$")
set(LORASHARD_EMULATED_HEADERS "" CACHE STRING
    "CUDA's and NCCL's headers for what runs on the emulator, where not the toolkit's: tests/gpu/oldest_toolkit")
set(cuda_headers ${LORASHARD_EMULATED_HEADERS})
if(NOT cuda_headers)
  set(cuda_headers ${CUDAToolkit_INCLUDE_DIRS} ${NCCL_INCLUDE_DIR})
endif()
add_library(emulated OBJECT ${cuda_sources} ${nccl_sources} ${emulator_sources})
target_compile_definitions(emulated PRIVATE LORASHARD_CUDA_BUILD="CUDA ${CUDAToolkit_VERSION}, emulated")
target_include_directories(emulated PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/emulator)
target_include_directories(emulated SYSTEM PUBLIC ${cuda_headers})
target_link_libraries(emulated PUBLIC dist Boost::context)
set(kernel_options -O3 -fsanitize=thread -fno-sanitize=address,undefined -Wno-attributes -Wno-unused-function -Wno-tsan)
set_source_files_properties(${cuda_sources} PROPERTIES COMPILE_OPTIONS "${kernel_options}")
# What the emulator does for each access of a kernel is fast whatever the build.
set(hot_sources ${emulator_sources})
list(FILTER hot_sources INCLUDE REGEX "/(access_hooks|blocks|cells|memory|order|shadow)\\.cpp$")
set_source_files_properties(${hot_sources} PROPERTIES COMPILE_OPTIONS "-O3;-fno-sanitize=address,undefined")

# Without a GPU, or with fewer than its ranks need, each case of a program skips, and ctest shows the program as skipped,
# not passed. On the emulator no case has that reason, and one that skips for another must not hide the rest.
function(show_missing_gpu test backend)
  if(backend STREQUAL "with_cuda")
    set_tests_properties(${test} PROPERTIES SKIP_REGULAR_EXPRESSION "no GPU here;needed, here are")
  endif()
endfunction()

# A test's source for one backend; `suffix` distinguishes the two. It is compiled once for both.
function(add_cuda_test file backend suffix)
  get_filename_component(name ${file} NAME_WE)
  set(target gpu_${name}${suffix})
  if(name MATCHES "program|machines")  # these are told which program to call
    set(object ${file})
  else()
    set(object $<TARGET_OBJECTS:gpu_${name}_object>)
    if(NOT TARGET gpu_${name}_object)
      add_library(gpu_${name}_object OBJECT ${file})
      target_link_libraries(gpu_${name}_object PRIVATE launch oracle trial GTest::gtest)
      target_include_directories(gpu_${name}_object SYSTEM PRIVATE ${cuda_headers})
      target_compile_options(gpu_${name}_object PRIVATE ${for_tests})
      target_precompile_headers(gpu_${name}_object REUSE_FROM rank_main)
    endif()
  endif()
  if(name MATCHES "^ranks_")
    add_executable(${target} ${object} $<TARGET_OBJECTS:rank_main>)
    target_link_libraries(${target} PRIVATE launch ${backend} oracle trial GTest::gtest)
    set(ranks 1 2 4)
    file(STRINGS ${file} first LIMIT_COUNT 1)
    if(first MATCHES "// ranks: ([0-9 ]+)")
      string(REPLACE " " ";" ranks "${CMAKE_MATCH_1}")
    endif()
    foreach(n ${ranks})
      set(test gpu.${name}.${n}${suffix})
      add_test(NAME ${test} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
               COMMAND ${MPIEXEC_EXECUTABLE} --allow-run-as-root --oversubscribe --bind-to none -np ${n} $<TARGET_FILE:${target}>)
      set_tests_properties(${test} PROPERTIES TIMEOUT 900 LABELS "cuda;ranks" PROCESSORS 2
                           ENVIRONMENT "OMP_NUM_THREADS=1;OMPI_MCA_rmaps_base_oversubscribe=1;OMPI_MCA_mpi_yield_when_idle=1")
      show_missing_gpu(${test} ${backend})
    endforeach()
  else()
    add_executable(${target} ${object})
    set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CXX)
    target_link_libraries(${target} PRIVATE launch ${backend} oracle GTest::gtest GTest::gtest_main)
    add_test(NAME gpu.${name}${suffix} COMMAND ${target} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(gpu.${name}${suffix} PROPERTIES TIMEOUT 600 LABELS cuda)
    show_missing_gpu(gpu.${name}${suffix} ${backend})
  endif()
endfunction()

file(GLOB cuda_tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/gpu/test_*.cpp ${CMAKE_CURRENT_SOURCE_DIR}/gpu/ranks_*.cpp)
foreach(file ${cuda_tests})
  add_cuda_test(${file} emulated _emulated)
  if(backend STREQUAL "with_cuda")
    add_cuda_test(${file} with_cuda "")
  endif()
endforeach()

# The program itself on the emulator, and one without CUDA: only tests call them. machines_emulated.cpp sets up the
# emulator's machine, so it has nothing to say to a GPU.
add_executable(lorashard_emulated ${CMAKE_SOURCE_DIR}/launch/main.cpp)
target_link_libraries(lorashard_emulated PRIVATE launch emulated)
add_executable(lorashard_without_cuda ${CMAKE_SOURCE_DIR}/launch/main.cpp)
target_link_libraries(lorashard_without_cuda PRIVATE launch without_cuda)
add_cuda_test(${CMAKE_CURRENT_SOURCE_DIR}/gpu/machines_emulated.cpp emulated "")
foreach(program lorashard_emulated lorashard_without_cuda)
  target_compile_definitions(${program} PRIVATE LORASHARD_VERSION="${PROJECT_VERSION}")
  add_dependencies(gpu_machines_emulated ${program})
endforeach()
target_compile_definitions(gpu_machines_emulated PRIVATE LORASHARD_PROGRAM="$<TARGET_FILE:lorashard_emulated>"
                           LORASHARD_WITHOUT_CUDA="$<TARGET_FILE:lorashard_without_cuda>")
target_compile_definitions(gpu_test_program_emulated PRIVATE LORASHARD_PROGRAM="$<TARGET_FILE:lorashard_emulated>")
add_dependencies(gpu_test_program_emulated lorashard_emulated)
if(TARGET gpu_test_program)
  target_compile_definitions(gpu_test_program PRIVATE LORASHARD_PROGRAM="$<TARGET_FILE:lorashard>")
  add_dependencies(gpu_test_program lorashard)
endif()
foreach(target gpu_machines_emulated gpu_test_program_emulated gpu_test_program)
  if(TARGET ${target})
    target_link_libraries(${target} PRIVATE GTest::gmock)
    string(REPLACE "gpu_" "gpu." test ${target})
    set_tests_properties(${test} PROPERTIES PROCESSORS 2)
  endif()
endforeach()

# No kernel of the build spills registers, and nvcc warned of nothing: ptxas reports what each uses, which keep_resources
# keeps beside the object.
if(backend STREQUAL "with_cuda")
  target_compile_options(with_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=-v>)
  set_target_properties(with_cuda PROPERTIES RULE_LAUNCH_COMPILE ${CMAKE_CURRENT_SOURCE_DIR}/gpu/keep_resources)
  add_test(NAME gpu.resources COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/gpu/resources $<TARGET_OBJECTS:with_cuda> COMMAND_EXPAND_LISTS)
  set_tests_properties(gpu.resources PROPERTIES LABELS cuda)
endif()

# The emulator's own: kernels with planted faults, which it must name.
file(GLOB fault_tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/emulator/test_*.cu ${CMAKE_CURRENT_SOURCE_DIR}/emulator/test_*.cpp)
foreach(file ${fault_tests})
  get_filename_component(name ${file} NAME_WE)
  set_source_files_properties(${file} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "${kernel_options}")
  add_executable(emulator_${name} ${file})
  target_include_directories(emulator_${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/emulator)
  target_link_libraries(emulator_${name} PRIVATE emulated GTest::gmock GTest::gtest_main)
  add_test(NAME emulator.${name} COMMAND emulator_${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(emulator.${name} PROPERTIES TIMEOUT 300 LABELS cuda)
endforeach()
file(GLOB rank_fault_tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/emulator/ranks_*.cpp)
foreach(file ${rank_fault_tests})
  get_filename_component(name ${file} NAME_WE)
  add_executable(emulator_${name} ${file} $<TARGET_OBJECTS:rank_main>)
  target_link_libraries(emulator_${name} PRIVATE emulated GTest::gtest)
  add_test(NAME emulator.${name}.2 WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
           COMMAND ${MPIEXEC_EXECUTABLE} --allow-run-as-root --oversubscribe --bind-to none -np 2 $<TARGET_FILE:emulator_${name}>)
  set_tests_properties(emulator.${name}.2 PROPERTIES TIMEOUT 300 LABELS "cuda;ranks" PROCESSORS 2)
endforeach()

# All golden cases on the emulator instead of the daily five: ctest -C Slow -L slow
add_test(NAME gpu.ranks_golden_all.4_emulated CONFIGURATIONS Slow WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
         COMMAND ${MPIEXEC_EXECUTABLE} --allow-run-as-root --oversubscribe --bind-to none -np 4
                 $<TARGET_FILE:gpu_ranks_golden_emulated>)
set_tests_properties(gpu.ranks_golden_all.4_emulated PROPERTIES TIMEOUT 5400 LABELS "cuda;ranks;slow" PROCESSORS 2
                     ENVIRONMENT "OMP_NUM_THREADS=1;OMPI_MCA_rmaps_base_oversubscribe=1;OMPI_MCA_mpi_yield_when_idle=1;LORASHARD_GOLDEN_ALL=1")

# Everything that runs on the emulator, for a build that is made for these tests alone, and the rest for one without.
get_property(all_targets DIRECTORY PROPERTY BUILDSYSTEM_TARGETS)
list(FILTER all_targets INCLUDE REGEX "^emulator_|_emulated$|^gpu_emulated_|^lorashard_")
add_custom_target(cuda_tests DEPENDS ${all_targets})
set(on_emulator emulated ${all_targets})
