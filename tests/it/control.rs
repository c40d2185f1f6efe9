//! The control of every escape test: without a fence each row works and is seen to arrive. A row that
//! fails here proves nothing elsewhere.

use lab::{Lab, binary::Scratch, prober::Prober, server::Servers};

use crate::{
    hooks::fence::HOST_LISTENERS,
    rows::{self, Under},
};

#[test]
fn every_row_works_without_a_fence() {
    let lab = Lab::new().expect("the lab can be made");
    let host = Servers::start(lab.host(), HOST_LISTENERS).expect("the host listens");
    let scratch = Scratch::new().expect("a folder");
    let program = scratch.install("prober").expect("the prober is built");
    let mut prober = Prober::bare(lab.host(), &program).expect("the prober starts");
    rows::check(&lab, &host, Under::Nothing, |script| {
        prober.ask(script).expect("the prober answers")
    });
}
