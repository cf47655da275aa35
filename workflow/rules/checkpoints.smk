"""
Checkpoints: train the models of a local ladder.

OUTPUTS  resources/checkpoints/{model}/{checkpoint}/                   Hugging Face layout, safetensors
         resources/checkpoints/{model}/{checkpoint}/trained-{id}.json    says that weights {id} are there
RERUNS   when a checkpoint of this identity is missing: the identity (corpus, recipe, size, step) is in the
         name of the output, and the rule is there only when one is missing. Nothing else may plan it: Snakemake
         does not look at jobs below one that it plans already, and would not see that their cells are missing
         or stale, since score's inputs are ancient. One rule per model: the steps to keep belong to the model.
"""

for trained in untrained_models():

    rule:
        # Train one model; a killed run goes on from its last checkpoint.
        name:
            f"train_{trained.name}"
        output:
            ready=[checkpoint.ready for checkpoint in trained.checkpoints],
        log:
            f"logs/train/{trained.name}.log",
        benchmark:
            f"logs/train/{trained.name}.benchmark.tsv"
        # The widest model takes longest: first.
        priority: TRAINING + trained.training["model"]["width"]
        conda:
            "../../envs/ebbtide.yaml"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=30,
        params:
            spec=canonical_json(trained.training),
        shell:
            "python -m ebbtide train --spec {params.spec:q} --ready {output.ready:q} 2> {log:q}"
