//! `deploy-broker`: the place where clusters meet.

use super::manifests::Base;
use super::objects::DryRun;
use super::steps::Steps;
use crate::kubectl::contexts::Target;
use crate::kubectl::output::Format;

/// Makes a cluster's API server a broker, or brings one up to date.
///
/// # Errors
/// Its API server refuses something; what was made by then stays, and another try continues.
pub async fn deploy(target: Target, dry_run: DryRun, format: Format) -> anyhow::Result<()> {
    let mut steps = Steps::new(target, dry_run, format);
    steps.apply(&Base::Crds.objects(None)?).await?;
    steps.apply(&Base::Broker.objects(None)?).await?;
    steps.finish()?;
    if dry_run != DryRun::None {
        return Ok(());
    }
    let name = &steps.target.name;
    steps.say(&format!(
        "{name} is a broker; a cluster joins with `kubectl linkspan join CLUSTER --context ITS_CONTEXT --broker-context \
         {name}`"
    ))
}
