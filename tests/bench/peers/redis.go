package main

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Commands sent before their answers are read.
const redisPipeline = 100

type redisPeer struct{ client *redis.Client }

func newRedis(address string) peer {
	return redisPeer{redis.NewClient(&redis.Options{Addr: address, PoolSize: 64})}
}

func (p redisPeer) create([]string) error { return nil }

func (p redisPeer) remove(streams []string) error {
	return p.client.Del(context.Background(), streams...).Err()
}

func (p redisPeer) produce(stream string, count int, value []byte) error {
	ctx := context.Background()
	for sent := 0; sent < count; {
		pipe := p.client.Pipeline()
		for ; sent < count && pipe.Len() < redisPipeline; sent++ {
			pipe.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: []any{"v", value}})
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p redisPeer) consume(stream string, count, size int) error {
	ctx := context.Background()
	from := "-"
	for read := 0; read < count; {
		found, err := p.client.XRangeN(ctx, stream, from, "+", 1000).Result()
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return fmt.Errorf("%s ends after %d of %d", stream, read, count)
		}
		for _, entry := range found {
			if value, _ := entry.Values["v"].(string); len(value) != size {
				return fmt.Errorf("%s: a value of %d bytes", stream, len(value))
			}
		}
		read += len(found)
		from = "(" + found[len(found)-1].ID
	}
	return nil
}
