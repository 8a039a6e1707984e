//! What `windfall train --seed SEED --iterations LESSONS` trains, without building the actors: for whoever changes an allocator.
//!
//!     cargo run --release -p training --example train -- SEED LESSONS OUT.onnx SCHOOL.json

use training::model_bytes;
use training::school::{Plan, School, examine_named};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [seed, lessons, out, kept] = &given[..] else {
        return Err("name the seed, the lessons, and the files of the model and of the training".into());
    };
    let plan = Plan { seed: seed.parse()?, iterations: lessons.parse()?, ..Plan::default() };
    for name in ["fixed", "profile", "profile-lent", "libra", "oracle"] {
        let brings = examine_named(&plan, 1, name).ok_or("these allocators exist")?;
        println!("{name:<14} {brings:+.4} a run in the examination");
    }
    let set = plan.kind.features();
    let mut school = School::new(plan);
    while !school.is_over() {
        if let Some(point) = school.go_on(1) {
            println!("lesson {}: {:+.4}", point.iteration, point.examined);
            std::fs::write(out, model_bytes(&school.best.actor, &set.columns()))?;
            std::fs::write(kept, serde_json::to_vec(&school)?)?;
        }
    }
    println!("{:+.4} a run at its best", school.best_examined);
    Ok(())
}
