//! What a template has process 1 do for a worker: the form in which the steps travel. Template and agent
//! write and read it, the program of process 1 carries it out; both compile this file.
//!
//! ```text
//! words of 8 bytes:  steps S | words to relocate R | what comes last
//!                    S × (number, 5 arguments, answer that is wanted, tag)
//!                    R × (a word of this message: the address at which the message lies is added to it)
//!                    data
//! ```

/// Words before the first step.
pub(crate) const HEAD_WORDS: usize = 3;
/// Words of a step.
pub(crate) const STEP_WORDS: usize = 8;
/// Arguments of a step.
pub(crate) const ARGUMENTS: usize = 5;
/// Any answer that is no errno.
pub(crate) const ANY: u64 = u64::MAX;
/// The last step executes a program.
pub(crate) const THEN_PROGRAM: u64 = 0;
/// After the last step the worker tries what its fence must refuse, and tells by its exit code.
pub(crate) const THEN_SELF_TEST: u64 = 1;

/// Longest errand, bytes.
pub(crate) const ERRAND_BYTES_MAX: usize = 512 * 1024;
/// Descriptors that come with an errand: standard input, output and error, the program, landlock's rules.
pub(crate) const DESCRIPTORS: usize = 5;
/// The number of the first of them: those below are process 1's own.
pub(crate) const FIRST_DESCRIPTOR: i32 = 4;

/// Words of 4 bytes of an answer: what became of the errand, the tag of the step, the errno.
pub(crate) const ANSWER_WORDS: usize = 3;
/// The worker has executed its program, or tries its fence.
pub(crate) const DONE: i32 = 1;
/// A step was answered otherwise than it should be. An errno of 0 stands for an answer that is none.
pub(crate) const FAILED: i32 = 2;
/// The worker was killed before the last step.
pub(crate) const KILLED: i32 = 3;
/// The errand is none: nothing was done.
pub(crate) const UNREADABLE: i32 = 4;

// What the worker tries in a self-test, by its bit in the exit code.

/// A datagram socket connected to an address that no policy opens: the hooks' answer.
pub(crate) const CONNECT: u8 = 1;
/// A folder that no policy lists: landlock's answer, and the built root's.
pub(crate) const READ: u8 = 1 << 1;
/// A new file outside the workdir: the read-only root's answer, and landlock's.
pub(crate) const WRITE: u8 = 1 << 2;
/// A socket of a family or protocol that no profile has: the filters' answer.
pub(crate) const FAMILY: u8 = 1 << 3;
/// A system call that no policy can add: the filters' answer.
pub(crate) const CALL: u8 = 1 << 4;
/// Added to what slipped. An exit code of 0, or of another kind of end, must not look like success.
pub(crate) const REPORT: u8 = 0x40;
