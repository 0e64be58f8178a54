# What single tests need beyond the rules of CMakeLists.txt.
target_link_libraries(core_test_options PRIVATE GTest::gmock)
