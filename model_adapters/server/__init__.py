"""vLLM servers: `egost serve` starts them, the engine shares requests among them."""
