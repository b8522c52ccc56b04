package vip
