//! Writes the CRDs of Linkspan's own kinds to `deploy/crds`.

use std::path::Path;

use controller::api::{crd_file, crds};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
    std::fs::create_dir_all(&folder)?;
    for crd in crds() {
        // By way of JSON values, whose fields are sorted.
        let text = serde_saphyr::to_string(&serde_json::to_value(&crd)?)?;
        let head = "# Written by `cargo run -p linkspan-controller --example crds` from controller/src/api.\n";
        std::fs::write(folder.join(crd_file(&crd)), format!("{head}{text}"))?;
    }
    Ok(())
}
