"""A reference LeJEPA trainer, with the baselines that it is compared to. Knows nothing of sweeps.

To read it in the way of the data:

    config            what a training is; method_config and its neighbours, view_config: its parts; recipes: examples
    data              names → images: image_sources, class_folders, torchvision_sources, decoding, image_cache, splits,
                      loading
    views             images → views: draws, resampling, colour; masks for methods that mask patches
    encoders          views → embeddings: convnets, vit, or timm; heads and projectors behind them; attention
    methods/          embeddings → losses: one file a method; losses has them as pure functions
    sigreg            LeJEPA's one regulariser: harmonics, spherical, gaussianity, variants
    trainer           the loop: schedules, optimizers, averaging, norms and ranks, telemetry, checkpoint
    evaluation        what was learned: probes, diagnostics, sketching, finetune; export takes the encoder away
    command           one training from a shell
"""
