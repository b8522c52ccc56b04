package core

func held(f func()) { go f() }
