//! What a loaded checkpoint counts in the process's memory figures. One test, since the figures are process-wide.

use gomlx::engine::Status;
use gomlx::engine::memory::{set_limit, usage};
use gomlx::engine::model::load::{LoadOptions, load};
use gomlx::engine::weights::WeightsMode;

#[path = "common/checkpoint.rs"]
mod checkpoint;
use checkpoint::Tiny;

#[test]
fn weights_are_counted_limited_and_given_back() {
    let folder = Tiny::llama().write();
    let size = std::fs::metadata(folder.file("model.safetensors")).unwrap().len();
    for (weights, mapped) in [(WeightsMode::Mapped, size), (WeightsMode::Read, 0)] {
        let options = LoadOptions { weights, control: None };
        let before = usage();
        let model = load(folder.path(), &options).unwrap();
        assert_eq!(usage().active - before.active, size);
        assert_eq!(usage().mapped - before.mapped, mapped);
        // A clone's views keep the bytes; the last one gives them back.
        let clone = model.tensors.clone();
        drop(model);
        assert_eq!(usage().active - before.active, size);
        drop(clone);
        assert_eq!((usage().active, usage().mapped), (before.active, before.mapped));

        set_limit(before.active + size - 1);
        let fault = load(folder.path(), &options).unwrap_err();
        assert_eq!(fault.status(), Status::Memory);
        assert!(fault.message().contains("model.safetensors"), "{fault}");
        assert_eq!(usage().active, before.active);
        set_limit(u64::MAX);
    }
}
