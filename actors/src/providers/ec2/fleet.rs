//! Instances of whichever type AWS has to spare: `CreateFleet`, one instance each.
//!
//! **Knows:** the types and subnets that may be taken, and the launch template that says the rest.
//! **Promises:** AWS takes of spot capacity what is cheap and least likely to be interrupted
//! (`price-capacity-optimized`), and of regular instances the cheapest. A template is made once for what it says, and
//! deleted with the cluster.
//! **Gives up:** telling an instance who it is: a fleet's instances share their user data, so each reads its tags from
//! the metadata service.

use sha2::{Digest, Sha256};
use vocabulary::{VmId, VmKind};

use super::{CLUSTER, Ec2Provider, filters, own, tagged, token};

/// Shell that adds to the environment what the tags of the instance say.
const ASKS: &str = concat!(
    "host=http://169.254.169.254/latest\n",
    "session=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' $host/api/token)\n",
    "tag() { curl -sf --retry 5 -H \"X-aws-ec2-metadata-token: $session\" \"$host/meta-data/tags/instance/$1\"; }\n",
    "vm=$(tag windfall:vm)\nkind=$(tag windfall:kind)\n",
    "printf 'WINDFALL_VM__ID=\"%s\"\\nWINDFALL_VM__KIND=\"%s\"\\n' \"$vm\" \"$kind\" >> /etc/windfall/vm.env\n",
);

impl Ec2Provider {
    /// One instance of one of these types, in one of the subnets.
    pub(super) async fn run_any(&self, vm: VmId, kind: VmKind, types: &[&str]) -> Result<(), String> {
        let template = self.template().await?;
        let config = "LaunchTemplateConfigs.1";
        let (market, strategy) = match kind {
            VmKind::Harvest => ("spot", own("SpotOptions.AllocationStrategy", "price-capacity-optimized")),
            VmKind::Regular => ("on-demand", own("OnDemandOptions.AllocationStrategy", "lowest-price")),
        };
        let mut parameters = vec![
            own("Type", "instant"),
            own("ClientToken", &token(&self.cluster, vm)),
            own("TargetCapacitySpecification.TotalTargetCapacity", "1"),
            own("TargetCapacitySpecification.DefaultTargetCapacityType", market),
            strategy,
            own(&format!("{config}.LaunchTemplateSpecification.LaunchTemplateName"), &template),
            own(&format!("{config}.LaunchTemplateSpecification.Version"), "$Default"),
        ];
        let subnets = self.settings.subnets();
        let places = types.iter().flat_map(|of| subnets.iter().map(move |subnet| (of, subnet)));
        for (number, (instance_type, subnet)) in places.enumerate() {
            let place = format!("{config}.Overrides.{}", number + 1);
            parameters.push(own(&format!("{place}.InstanceType"), instance_type));
            if !subnet.is_empty() {
                parameters.push(own(&format!("{place}.SubnetId"), subnet));
            }
        }
        parameters.extend(self.tags("TagSpecification.1", vm, kind));
        let answer = self.ask("CreateFleet", parameters).await?;
        if answer.items("fleetInstanceSet").any(|set| set.items("instanceIds").next().is_some()) {
            return Ok(());
        }
        let refused = |error: &super::Element| {
            format!("{}: {}", error.text_of("errorCode"), error.text_of("errorMessage"))
        };
        let why: Vec<_> = answer.items("errorSet").map(refused).collect();
        Err(format!("CreateFleet: no instance of {} was to be had: {}", types.join(", "), why.join("; ")))
    }

    /// The name of the template that says what all instances have in common. Its name holds what it says, so that one
    /// that is there is the right one.
    async fn template(&self) -> Result<String, String> {
        let data = "LaunchTemplateData.";
        let mut parameters = self.instance(data, &self.user_data("", ASKS));
        parameters.push((format!("{data}MetadataOptions.InstanceMetadataTags"), "enabled".into()));
        let said = Sha256::digest(super::sign::form(&parameters));
        let said: String = said.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let named = |letter: &char| letter.is_ascii_alphanumeric() || *letter == '-';
        let cluster: String = self.cluster.chars().filter(named).take(80).collect();
        let name = format!("windfall-{cluster}-{said}");
        parameters.push(own("LaunchTemplateName", &name));
        parameters.extend(tagged(
            "TagSpecification.1",
            "launch-template",
            &[(CLUSTER, self.cluster.clone())],
        ));
        match self.ask("CreateLaunchTemplate", parameters).await {
            Err(error) if !error.contains("AlreadyExists") => Err(error),
            _ => Ok(name),
        }
    }

    /// Templates of the cluster, all of them.
    pub(super) async fn delete_templates(&self) {
        let tag = format!("tag:{CLUSTER}");
        let wanted = filters(&[(tag.as_str(), &[self.cluster.as_str()])]);
        let left = |error: String| tracing::warn!(error, "a launch template is left behind");
        match self.ask("DescribeLaunchTemplates", wanted).await {
            Err(error) => left(error),
            Ok(answer) => {
                for template in answer.items("launchTemplates") {
                    let id = own("LaunchTemplateId", template.text_of("launchTemplateId"));
                    if let Err(error) = self.ask("DeleteLaunchTemplate", vec![id]).await {
                        left(error);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{KIND, VM};
    use super::*;

    #[test]
    fn what_an_instance_asks_for_is_what_it_is_tagged_with() {
        assert!(ASKS.contains(&format!("$(tag {VM})")) && ASKS.contains(&format!("$(tag {KIND})")));
    }
}
