// cluster/run_job and what it calls, without Slurm: srun, scontrol and the program are scripts that say what they are
// told to.
#include <gmock/gmock.h>

#include "tests/launch/program.hpp"

namespace lorashard::launch {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class RunJob : public Program {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(at("bin"));
    put("srun", "echo srun \"$@\" >> calls\nwhile [[ $1 == --* ]]; do shift; done\nexec \"$@\"\n");
    put("mpirun", "echo mpirun \"$@\" >> calls\nuntil [[ $1 == */lorashard ]]; do shift; done\nexec \"$@\"\n");
    put("scontrol",
        "if [[ $1 == show ]]; then echo \"   StartTime=x EndTime=$(date -d '2 hours' +%Y-%m-%dT%H:%M:%S) Deadline=y\"\n"
        "else echo scontrol \"$@\" >> calls; fi\n");
    put("lorashard",
        "case $1 in\n launch) echo run ;;\n check) source ./check ;;\n train) mkdir -p run/checkpoints; source ./train "
        ";;\nesac\n");
    write_file(at("check"), "echo '2 of 2 nodes are good'\n");
    write_file(at("train"), "true\n");
  }

  void put(const std::string& name, const std::string& script) {
    write_file(at("bin") / name, "#!/usr/bin/env bash\n" + script);
    std::filesystem::permissions(at("bin") / name, std::filesystem::perms::owner_all);
  }

  // As a batch script on two nodes. `before` may set variables.
  Outcome run_job(const std::string& arguments, const std::string& before = "") {
    const std::string command =
        "cd '" + folder_.string() + "' && " + before +
        " PATH=$PWD/bin:$PATH LORASHARD=$PWD/bin/lorashard SLURM_JOB_ID=7 SLURM_JOB_NUM_NODES=2 "
        "SLURM_NTASKS_PER_NODE=1 SLURM_CPUS_PER_TASK=3 '" +
        std::filesystem::absolute("cluster/run_job").string() + "' " + arguments + " >.out 2>.err";
    const int status = std::system(command.c_str());
    return {WEXITSTATUS(status), content_of(at(".out")), content_of(at(".err"))};
  }

  std::string calls() const { return content_of(at("calls")); }
};

const std::string kSaves3 = "touch run/checkpoints/step-00000003.h5\n";

TEST_F(RunJob, ChecksTheNodesAndStartsTheRanks) {
  EXPECT_EQ(run_job("job.ini --train.steps 3").code, 0);
  EXPECT_THAT(calls(),
              HasSubstr("srun --mpi=pmix --kill-on-bad-exit=1 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=3 "));
  EXPECT_THAT(calls(),
              AllOf(HasSubstr("lorashard check --dir .\n"),
                    HasSubstr("lorashard train --config job.ini --train.steps 3\n"), Not(HasSubstr("scontrol"))));
  std::filesystem::remove(at("calls"));
  EXPECT_EQ(run_job("--no-check job.ini", "launcher=mpirun").code, 0);
  EXPECT_THAT(calls(), AllOf(HasSubstr("mpirun -np 2 --map-by ppr:1:node --bind-to none "), Not(HasSubstr("check"))));
}

TEST_F(RunJob, TellsTheProgramWhenItsTimeIsOver) {
  write_file(at("train"), "echo $(( SLURM_JOB_END_TIME - $(date +%s) ))\n");
  EXPECT_NEAR(std::atoi(run_job("--no-check job.ini").out.c_str()), 7200, 10);
  EXPECT_EQ(run_job("--no-check job.ini", "SLURM_JOB_END_TIME=1").out.substr(0, 1), "-") << "Slurm's own wins";
}

TEST_F(RunJob, ABadNodeStopsTheJob) {
  write_file(at("check"),
             "echo 'bad node n2: GPUs: found 7, expected 8'\necho 'bad node n2: clock: x'\n"
             "echo 'bad node n5: GPUs: y'\nexit 5\n");
  const Outcome outcome = run_job("job.ini");
  EXPECT_EQ(outcome.code, 5);
  EXPECT_THAT(outcome.out, HasSubstr("sbatch --exclude=n2,n5\n"));
  EXPECT_THAT(calls(), Not(HasSubstr("train")));
}

TEST_F(RunJob, ACheckThatCannotEndStopsTheJob) {
  write_file(at("check"), "sleep 30\n");
  const Outcome outcome = run_job("job.ini", "LORASHARD_CHECK_LIMIT_S=1");
  EXPECT_EQ(outcome.code, 5);
  EXPECT_THAT(outcome.out, HasSubstr("node check: no end within 1 s"));
  EXPECT_THAT(calls(), Not(HasSubstr("train")));
}

TEST_F(RunJob, AWrongJobEndsBeforeAnyNodeIsAsked) {
  put("lorashard", "echo 'lorashard: job.ini: wrong' >&2\nexit 2\n");
  EXPECT_EQ(run_job("job.ini").code, 2);
  EXPECT_EQ(calls(), "");
}

TEST_F(RunJob, ExitCodesArePassedOn) {
  for (const int code : {1, 3, 4, 5, 6}) {
    write_file(at("train"), kSaves3 + "exit " + std::to_string(code) + "\n");
    EXPECT_EQ(run_job("--requeue job.ini").code, code);
  }
  EXPECT_THAT(calls(), Not(HasSubstr("scontrol")));
}

// Not one that had begun, nor twice.
TEST_F(RunJob, StartsOnceMoreWhatCrashedBeforeItBegan) {
  const auto starts = [&] {
    const std::string all = calls();
    std::filesystem::remove(at("calls"));
    int count = 0;
    for (std::size_t at = 0; (at = all.find("lorashard train", at)) != all.npos; ++at) ++count;
    return count;
  };
  write_file(at("train"), "if [[ -e tried ]]; then echo > run/lock; exit 0; fi\ntouch tried\nexit 139\n");
  const Outcome outcome = run_job("job.ini");
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.out, HasSubstr("exit code 139 before the program had begun: started once more"));
  EXPECT_EQ(starts(), 2);
  write_file(at("train"), "echo > run/lock\nexit 139\n");
  EXPECT_EQ(run_job("job.ini").code, 139);
  EXPECT_EQ(starts(), 1);
  write_file(at("train"), "exit 143\n");
  EXPECT_EQ(run_job("job.ini").code, 143);
  EXPECT_EQ(starts(), 2);
}

TEST_F(RunJob, RequeuesAJobThatCameFurther) {
  write_file(at("train"), kSaves3 + "exit 7\n");
  const Outcome outcome = run_job("--requeue job.ini");
  EXPECT_EQ(outcome.code, 7);
  EXPECT_THAT(outcome.out, HasSubstr("stopped after step-00000003.h5, started from nothing: requeued"));
  EXPECT_THAT(calls(), HasSubstr("scontrol requeue 7\n"));
}

TEST_F(RunJob, DoesNotRequeueAJobThatMakesNoProgress) {
  write_file(at("train"), "exit 7\n");
  EXPECT_THAT(run_job("--requeue job.ini").out, HasSubstr("stopped at no checkpoint"));
  write_file(at("train"), kSaves3 + "exit 7\n");
  EXPECT_EQ(run_job("job.ini").code, 7);  // without --requeue: leaves a checkpoint
  const Outcome outcome = run_job("--requeue job.ini");
  EXPECT_EQ(outcome.code, 7);
  EXPECT_THAT(outcome.out, HasSubstr("stopped at step-00000003.h5, where it had started: found no progress"));
  EXPECT_THAT(calls(), Not(HasSubstr("scontrol")));
}

// The signal goes to the batch shell, and from there to the launcher, which the stub has become the program's.
TEST_F(RunJob, HandsTheSignalOn) {
  const std::string waits =
      "trap '" + kSaves3 + "exit 7' USR1\nkill -USR1 $PPID\nfor i in {1..200}; do sleep 0.05; done\n";
  write_file(at("train"), waits);
  EXPECT_THAT(run_job("--requeue job.ini").out, HasSubstr("requeued"));
  EXPECT_THAT(calls(), HasSubstr("scontrol requeue 7\n"));
}

// srun reports the task that it killed, not the ones that left with 7.
TEST_F(RunJob, SeesThroughAKilledTask) {
  write_file(at("train"),
             "trap '" + kSaves3 + "exit 143' USR1\nkill -USR1 $PPID\nfor i in {1..200}; do sleep 0.05; done\n");
  EXPECT_EQ(run_job("--requeue job.ini").code, 7);
  EXPECT_THAT(calls(), HasSubstr("scontrol requeue 7\n"));
}

TEST_F(RunJob, ACancelledJobStaysOut) {
  write_file(at("train"),
             "trap '" + kSaves3 + "exit 7' TERM\nkill -TERM $PPID\nfor i in {1..200}; do sleep 0.05; done\n");
  const Outcome outcome = run_job("--requeue job.ini");
  EXPECT_EQ(outcome.code, 7);
  EXPECT_THAT(outcome.out, HasSubstr("not requeued from here"));
  EXPECT_THAT(calls(), Not(HasSubstr("scontrol")));
}

// mpirun would kill its ranks at SIGTERM, whoever sends it: it does not hear it, and is asked by another signal.
TEST_F(RunJob, UnderMpirunACancelledJobSavesToo) {
  write_file(at("train"), "trap '" + kSaves3 + "exit 7' USR1\nkill -TERM $$\nkill -TERM $PPID\n"
                          "for i in {1..200}; do sleep 0.05; done\n");
  const Outcome outcome = run_job("--requeue job.ini", "launcher=mpirun");
  EXPECT_EQ(outcome.code, 7);
  EXPECT_THAT(outcome.out, HasSubstr("not requeued from here"));
  EXPECT_THAT(calls(), Not(HasSubstr("scontrol")));
}

TEST_F(RunJob, TheScriptsAreShell) {
  for (const char* name :
       {"single_node.sbatch", "many_nodes.sbatch", "requeue.sbatch", "run_job", "node_check", "environment.sh"})
    EXPECT_EQ(std::system((std::string("bash -n cluster/") + name).c_str()), 0) << name;
  for (const char* name : {"single_node.sbatch", "many_nodes.sbatch", "requeue.sbatch"}) {
    const std::string script = content_of(std::string("cluster/") + name);
    const std::size_t command = script.find("\ncluster=");
    ASSERT_NE(command, script.npos);
    EXPECT_EQ(script.find("\n#SBATCH", command), script.npos) << name << ": Slurm stops reading at the first command";
  }
}

}  // namespace
}  // namespace lorashard::launch
