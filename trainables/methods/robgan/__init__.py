"""Rob-GAN: the joint training of classifier and generator, its schedule, samples and quality measures."""
