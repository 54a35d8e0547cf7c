"""Operations that clients ask of their models, one after another; answers are kept until they are asked for."""
