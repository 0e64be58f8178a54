# Sourced (bash) by every script of this folder, on the node where a batch script runs: what the program needs to be
# found and to run well. What is set here goes to all ranks. A site edits this file once; a variable that is set before
# it is read stays as it was.

# Modules, where the site has them. Their names differ; these are what EasyBuild, Spack and vendors' stacks often call
# them. Open MPI must be the one that the program was built with, and built with PMIx for srun --mpi=pmix.
#   module purge                       # or what the login shell had loaded decides
#   module load OpenMPI/4.1.6          # openmpi/4.1.6, openmpi@4.1.6
#   module load CUDA/12.4.0            # cuda/12.4, cudatoolkit
#   module load NCCL/2.21.5-CUDA-12.4.0
#   module load HDF5/1.14.3-gompi      # hdf5-parallel, phdf5, cray-hdf5-parallel; a serial one does as well
#   module load Boost/1.83.0           # program_options and json, unless they are linked in

# The network of MPI's own messages and of NCCL's first contact, where the nodes have several (docker0, a management
# net) and the wrong one is taken: jobs then hang at the start. Empty: the libraries choose.
network=${LORASHARD_NETWORK:-}         # ib0, hsn0, eth1
# A container (cluster/lorashard.def) that holds the program. Empty: the program lies on a file system of all nodes.
container=${LORASHARD_CONTAINER:-}     # /shared/lorashard.sif

# --- from here on a site should have nothing to edit ---

cluster_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# A tree made by cluster/bundle brings its libraries, and its Open MPI.
[[ ! -e $cluster_folder/../../../env.sh ]] || . "$cluster_folder/../../../env.sh"
# The program: what LORASHARD names, of the installed tree, of the source tree, or on the path.
if [[ -n $container ]]; then
  lorashard=(apptainer exec --nv "$container" lorashard)
else
  program=${LORASHARD:-}
  for candidate in "$cluster_folder"/../../../bin/lorashard "$cluster_folder"/../build/release/lorashard \
                   "$(command -v lorashard)"; do
    [[ -z $program && -x $candidate ]] && program=$candidate
  done
  [[ -x $program ]] || { echo "LORASHARD: found '$program', expected the program lorashard" >&2; exit 2; }
  lorashard=("$program")
fi

# NCCL says why it fails, and nothing more. INFO names each ring and the network in use, once for every rank.
export NCCL_DEBUG=${NCCL_DEBUG:-WARN}
# GPUs in the order of their places on the bus, as nvidia-smi lists them: "GPU 3" of a message is then the same card.
export CUDA_DEVICE_ORDER=${CUDA_DEVICE_ORDER:-PCI_BUS_ID}
if [[ -n $network ]]; then
  export NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-$network}
  export OMPI_MCA_oob_tcp_if_include=${OMPI_MCA_oob_tcp_if_include:-$network}
  export OMPI_MCA_btl_tcp_if_include=${OMPI_MCA_btl_tcp_if_include:-$network}
fi
# InfiniBand: which cards (ibstat lists them; a node's storage card is not one of them), and how long a lost packet is
# sent again before the job ends: 4 us x 2^timeout a try. Larger fabrics need the longer wait.
#   export NCCL_IB_HCA=mlx5_0,mlx5_1,mlx5_4,mlx5_5 UCX_NET_DEVICES=mlx5_0:1
#   export NCCL_IB_TIMEOUT=22
# UCX warns of every variable that it does not know, once for each rank.
export UCX_WARN_UNUSED_ENV_VARS=${UCX_WARN_UNUSED_ENV_VARS:-n}
# Open MPI 4's openib complains on InfiniBand that UCX has taken over.
export OMPI_MCA_btl=${OMPI_MCA_btl:-^openib}
# mpirun hears nothing of a node that died. Its connections are asked after a minute of silence, three times ten seconds
# apart, instead of after five minutes and then nine times twenty: a lost node ends the job in a minute and a half.
export OMPI_MCA_oob_tcp_keepalive_time=${OMPI_MCA_oob_tcp_keepalive_time:-60}
export OMPI_MCA_oob_tcp_keepalive_intvl=${OMPI_MCA_oob_tcp_keepalive_intvl:-10}
export OMPI_MCA_oob_tcp_keepalive_probes=${OMPI_MCA_oob_tcp_keepalive_probes:-3}
# Threads stay where Slurm puts the rank, and move inside that. Bound to places, the threads of all ranks of a node
# would meet on its first cores where Slurm binds no ranks (TaskPlugin=task/none).
export OMP_PROC_BIND=${OMP_PROC_BIND:-false}

# When the job ends, which the program saves ahead of: Slurm says so itself from 23.02 on.
if [[ -n ${SLURM_JOB_ID:-} && -z ${SLURM_JOB_END_TIME:-} ]]; then
  job_end=$(scontrol show job "$SLURM_JOB_ID" 2>/dev/null | sed -n 's/.* EndTime=\([^ ]*\).*/\1/p')
  job_end=$(date -d "$job_end" +%s 2>/dev/null) && [[ $job_end -gt $(date +%s) ]] && export SLURM_JOB_END_TIME=$job_end
fi

# How ranks are started on what Slurm gave. One rank that fails ends all: the others would wait for it until the limit.
tasks_per_node=${SLURM_NTASKS_PER_NODE:-$(( ${SLURM_NTASKS:-1} / ${SLURM_JOB_NUM_NODES:-1} ))}
tasks=$(( tasks_per_node * ${SLURM_JOB_NUM_NODES:-1} ))
case ${launcher:-srun} in
  srun)
    # Since Slurm 22.05 srun does not take --cpus-per-task over from sbatch.
    start=(srun --mpi=pmix --kill-on-bad-exit=1 --ntasks="$tasks" --ntasks-per-node="$tasks_per_node"
           --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}")
    stop_signal=TERM ;;
  mpirun)
    # Not bound: mpirun counts cores where Slurm counts hardware threads, and binds one or two ranks to a core each. Its
    # daemons get what is exported here from srun, which starts them.
    stop_signal=USR1  # mpirun hands it on, and ends the ranks at TERM
    start=(mpirun -np "$tasks" --map-by "ppr:$tasks_per_node:node" --bind-to none)
    # At a preemption Slurm sends SIGTERM to every process of the job. mpirun and its daemons would kill the ranks at once, in
    # the middle of their saving: they do not hear of it (env of coreutils 8.31 on; ranks unblock it).
    if env --block-signal=TERM true 2>/dev/null; then
      start=(env --block-signal=TERM "${start[@]}" --mca orte_launch_agent "env --block-signal=TERM orted")
    fi ;;
  *) echo "launcher: found '$launcher', expected srun or mpirun" >&2; exit 2 ;;
esac
