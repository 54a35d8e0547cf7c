"""Parts of a base model that learners compute in their own way: attention, blocks, the output layer."""
