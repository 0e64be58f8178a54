# What single tests need beyond the rules of CMakeLists.txt.
target_link_libraries(core_test_options PRIVATE GTest::gmock)
target_link_libraries(core_test_metrics PRIVATE GTest::gmock)

# Jobs of the whole trainer: scratch files, meshes smaller than the job, the golden cases.
file(GLOB trial_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/golden/*.cpp)
list(FILTER trial_sources EXCLUDE REGEX "/(test|ranks)_[^/]*$")
add_library(trial STATIC ${trial_sources})
target_link_libraries(trial PUBLIC launch oracle GTest::gtest)
target_precompile_headers(trial REUSE_FROM kernels)
foreach(user core_ranks_gpt_nano_sort core_ranks_layer_norms core_ranks_merge core_ranks_model core_ranks_model_llama
             core_ranks_not_finite core_ranks_parity core_ranks_replicas core_ranks_resume core_ranks_switching
             golden_ranks_golden golden_ranks_ledger)
  if(TARGET ${user})
    target_link_libraries(${user} PRIVATE trial)
  endif()
endforeach()

# All 1008 golden cases instead of the daily 57: ctest -C Slow -L slow
add_test(NAME golden.ranks_golden_all.6 CONFIGURATIONS Slow WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
         COMMAND ${MPIEXEC_EXECUTABLE} --allow-run-as-root --oversubscribe --bind-to none -np 6
                 $<TARGET_FILE:golden_ranks_golden>)
set_tests_properties(golden.ranks_golden_all.6 PROPERTIES TIMEOUT 10800 LABELS "golden;ranks;slow" PROCESSORS 2
                     ENVIRONMENT "OMP_NUM_THREADS=1;OMPI_MCA_rmaps_base_oversubscribe=1;OMPI_MCA_mpi_yield_when_idle=1;LORASHARD_GOLDEN_ALL=1")

# The fuzz targets as plain functions, for the replay of their corpora.
file(GLOB fuzz_targets CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/fuzz_*.cpp)
target_sources(core_test_fuzz_corpus PRIVATE ${fuzz_targets})

# Tests that call the built program.
foreach(name test_bad_input test_evaluate test_event_file test_interrupted test_launch test_llama test_merge test_parity test_planning
             test_program test_report test_run_job)
  target_link_libraries(launch_${name} PRIVATE GTest::gmock)
  target_compile_definitions(launch_${name} PRIVATE LORASHARD_PROGRAM="$<TARGET_FILE:lorashard>")
  add_dependencies(launch_${name} lorashard)
  set_tests_properties(launch.${name} PROPERTIES PROCESSORS 2)
endforeach()

# Ten kills instead of the daily two: ctest -C Slow -L slow
add_test(NAME launch.test_interrupted_ten CONFIGURATIONS Slow COMMAND launch_test_interrupted --gtest_filter=*RandomMoments)
set_tests_properties(launch.test_interrupted_ten PROPERTIES
                     LABELS "launch;slow" PROCESSORS 2 TIMEOUT 900 ENVIRONMENT LORASHARD_KILLS=10)

# On pretend hosts and a real Slurm, as root, for some minutes each: ctest -C Cluster -L cluster
foreach(name faults resume slurm)
  add_test(NAME cluster.${name} CONFIGURATIONS Cluster COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/cluster/${name})
  set_tests_properties(cluster.${name} PROPERTIES LABELS cluster TIMEOUT 1500 RUN_SERIAL ON SKIP_RETURN_CODE 77
                       ENVIRONMENT "PROGRAM=$<TARGET_FILE:lorashard>")
endforeach()
