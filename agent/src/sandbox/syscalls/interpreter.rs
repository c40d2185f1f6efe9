//! What `interpreter` has beyond `default`: language runtimes. Besides these calls it has stream sockets
//! by name (`sockets`).

use super::{Call, calls};

/// The groups.
pub(super) const GROUPS: &[&[Call]] = &[RUNTIME];

/// Placement of memory, priorities, System V queues, semaphores and memory.
const RUNTIME: &[Call] = calls! {
    get_mempolicy: "memory near a processor",
    ioprio_get: "priority of own disk use",
    ioprio_set: "lowering it",
    mbind: "memory near a processor",
    mlockall: "limited",
    msgctl: "message queues in the session's namespace",
    msgget: "as msgctl",
    msgrcv: "as msgctl",
    msgsnd: "as msgctl",
    munlockall: "limited",
    sched_setattr: "lowering own priority",
    sched_setparam: "lowering own priority",
    sched_setscheduler: "lowering own priority",
    semctl: "semaphores in the session's namespace",
    semget: "as semctl",
    semop: "as semctl",
    semtimedop: "as semctl",
    set_mempolicy: "memory near a processor",
    shmat: "shared memory in the session's namespace",
    shmctl: "as shmat",
    shmdt: "as shmat",
    shmget: "as shmat",
};
