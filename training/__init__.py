"""How ST-R1 is made: training rows, ST-CoT fine-tuning and GRPO."""
